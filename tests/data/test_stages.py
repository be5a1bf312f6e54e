"""Stages: what changes at a step, exactly, on any number of hosts, and what a resume may find changed."""

import collections
import dataclasses
import json

import numpy as np
import pytest

from t5x_style.data import DataConfig, Source, Stage, merge_states, open_loader
from t5x_style.data.objectives import CausalLM, PrefixLM
from t5x_style.errors import UserError

THREE = (
    Stage(5, sources={"a": 1.0, "c": 1.0}),
    Stage(9, length=8, batch_size=4),
    Stage(14, sources={"b": 1.0}, length=32),
)


@pytest.fixture
def config(make_cache, documents):
    for index, name in enumerate(("a", "b", "c")):
        make_cache(name, documents(40 + 9 * index, seed=index, longest=20 + 10 * index), append_eos=["targets"])
    return DataConfig(
        make_cache.folder,
        "staged",
        CausalLM(),
        batch_size=8,
        length=16,
        sources={"a": 3.0, "b": 1.0},
        stages=THREE,
        prefetch=0,
    )


def replaced(config, **changes):
    return dataclasses.replace(config, **changes)


def assert_equal(first, second):
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def sources_of(batch, loader):
    names = loader.summary()["sources"]
    return {names[index] for index in np.unique(batch["source_ids"]) if index >= 0}


def test_shapes_and_sources_follow_the_stages(config):
    loader = open_loader(config)
    batches = [next(loader) for _ in range(80)]
    shapes = [batch["source_ids"].shape for batch in batches]
    assert shapes[:20] == [(1, 8, 16)] * 9 + [(1, 4, 8)] * 5 + [(1, 4, 32)] * 6
    assert config.open_streams == 4  # the greatest divisor of 8 and 4 rows
    assert sources_of(batches[0], loader) == {"a", "b"}
    assert "c" in sources_of(batches[8], loader)
    # What was packed before step 14 is used up, then b is alone.
    assert all(sources_of(batch, loader) == {"b"} for batch in batches[70:])
    assert loader.summary()["sources"] == ["a", "b", "c"]
    assert [stage["step"] for stage in loader.summary()["stages"]] == [0, 5, 9, 14]
    counters = loader.counters()
    assert counters["read_dropped"] > 0  # pieces of 9 to 16 tokens have no room in rows of 8
    assert counters["read_tokens_dropped"] > 8 * counters["read_dropped"]
    found = open_loader(replaced(config, prefetch=2))
    for batch in batches:
        assert_equal(next(found), batch)
    found.close()


def test_nothing_is_lost_where_it_fits(make_cache):
    """One stream, rows that grow: every document of the epoch comes once, over the switch, in rows of either length."""
    make_cache("a", [{"targets": [10 + index] * 5} for index in range(200)], shards=1)
    config = DataConfig(
        make_cache.folder, "a", CausalLM(), batch_size=1, length=8, stages=[Stage(3, length=16)], prefetch=0
    )
    loader = open_loader(config)
    batches = [next(loader) for _ in range(60)]
    seen = collections.Counter()
    for batch in batches:
        seen.update(batch["decoder_target_tokens"][batch["decoder_segment_ids"] > 0].tolist())
    assert set(seen.values()) == {5}  # whole, and none twice
    state = loader.get_state()
    (stream,) = state["streams"].values()
    assert len(stream["switches"]) == 1
    assert stream["tokens"] == [sum(seen.values())]
    assert loader.counters()["read_dropped"] == 0


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 9, 12, 13, 14, 30])
def test_resuming_is_exact_over_switches(config, stop):
    loader = open_loader(config)
    for _ in range(stop):
        next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    expected = [next(loader) for _ in range(20)]
    again = open_loader(config)
    again.set_state(state)
    assert again.get_state() == state
    for batch in expected:
        assert_equal(next(again), batch)
    assert again.counters()["tokens_by_source"] == loader.counters()["tokens_by_source"]


def test_the_same_batches_on_two_hosts(config):
    whole = open_loader(config)

    def half(index):
        return lambda count: range(index * count // 2, (index + 1) * count // 2)

    hosts = [open_loader(config, half(index)) for index in (0, 1)]
    for step in range(20):
        expected = next(whole)
        for index, host in enumerate(hosts):
            rows = half(index)(expected["source_ids"].shape[1])
            assert_equal(next(host), {name: array[:, rows] for name, array in expected.items()})
        if step in (4, 9, 15):
            state = merge_states([host.get_state() for host in hosts])
            assert state == whole.get_state()
            hosts = [open_loader(config, half(index)) for index in (0, 1)]
            for host in hosts:
                host.set_state(state)
    with pytest.raises(UserError, match="give a function"):
        open_loader(config, [0, 1])


def test_a_stage_added_later_leaves_what_was_before(config, make_cache, documents):
    make_cache("aa", documents(30, seed=9), append_eos=["targets"])  # its name stands before the others
    more = replaced(config, stages=(*THREE, Stage(20, sources={"aa": 1.0, "b": 2.0})))
    first, second = open_loader(config), open_loader(more)
    for step in range(20):
        assert_equal(next(first), next(second))
        if step == 16:
            third = open_loader(more)
            third.set_state(json.loads(json.dumps(first.get_state())))
    assert second.summary()["sources"] == ["a", "b", "c", "aa"]
    for _ in range(3):
        next(third)
    for _ in range(10):
        assert_equal(next(second), next(third))
    state = third.get_state()
    with pytest.raises(UserError, match=r"steps of stages = \[5, 9, 14, 20\], the run has \[5, 9, 14\]"):
        open_loader(config).set_state(state)


def test_sources_go_on_where_the_stream_left_them(make_cache):
    """The switch changes the rates; the order of every source goes on: no record twice before all came once."""
    for name, first in (("a", 10), ("b", 1000)):
        make_cache(name, [{"targets": [first + index] * 4} for index in range(300)], shards=1)
    config = DataConfig(
        make_cache.folder,
        "ab",
        CausalLM(),
        batch_size=4,
        length=4,
        sources={"a": 1.0, "b": 3.0},
        stages=[Stage(20, sources={"a": 3.0, "b": 1.0}), Stage(40, sources={"b": 1.0, "a": 1.0})],
        prefetch=0,
    )
    loader = open_loader(config)
    tokens = collections.Counter()
    for _ in range(70):
        tokens.update(next(loader)["decoder_target_tokens"][..., 0].ravel().tolist())
    assert max(tokens.values()) == 1
    assert 80 < sum(token < 1000 for token in tokens) < 200


# Identity.


def test_what_a_resume_refuses_is_named(config):
    loader = open_loader(config)
    for _ in range(7):
        next(loader)
    state = loader.get_state()
    heavier = {"a": 2.0, "b": 1.0}
    for changes, message in (
        ({"seed": 4}, "seed = 0, the run has 4"),
        ({"packing": False}, "packing = True, the run has False"),
        ({"length": 24}, r"DataConfig.length \(decoder, from step 0\) = 16, the run has 24"),
        ({"streams": 2}, "streams = 4, the run has 2"),
        (
            {"sources": heavier},
            r"DataConfig.sources \(from step 0\) = {'a': 3, 'b': 1} \(of what .*, the run has {'a': 2, 'b': 1}",
        ),
        ({"objective": CausalLM(start_id=5)}, r"objective.start_id of a \(from step 0\) = None, the run has 5"),
        ({"stages": THREE[1:]}, r"steps of stages = \[5\], the run has \[\]"),
        ({"stages": (Stage(6, length=8), *THREE[1:])}, r"steps of stages\[0\] = 5, the run has 6"),
    ):
        with pytest.raises(UserError, match=message):
            open_loader(replaced(config, **changes)).set_state(state)
    open_loader(replaced(config, stages=THREE[:1])).set_state(state)  # those to come may go
    open_loader(replaced(config, prefetch=3)).set_state(state)
    thirds = {"a": 0.75, "b": 0.25}  # the same mixture
    open_loader(replaced(config, sources=thirds)).set_state(state)


def test_changed_data_is_named(config, make_cache, documents):
    state = open_loader(config).get_state()
    make_cache("b", documents(49, seed=3), append_eos=["targets"])
    with pytest.raises(UserError, match=r"shards of source b = "):
        open_loader(config).set_state(state)


@pytest.mark.parametrize("change", [{"append_eos": ()}, {"trim": {"targets": 9}}])
def test_data_that_is_used_otherwise_is_named(config, make_cache, documents, change):
    """The shards are the same: EOS and trimming are the loader's."""
    state = open_loader(config).get_state()
    make_cache("b", documents(49, seed=1, longest=30), **({"append_eos": ["targets"]} | change))
    with pytest.raises(UserError, match=f"{next(iter(change))}.* of source b = "):
        open_loader(config).set_state(state)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grouped(CausalLM):
    """Of a library that changed how many documents it joins."""

    group = 2


def test_an_objectives_group_is_part_of_it(config):
    """As a class variable it is no field."""
    state = open_loader(replaced(config, objective=Grouped())).get_state()
    Grouped.group = 4
    try:
        with pytest.raises(UserError, match=r"objective.group of a \(from step 0\) = 2, the run has 4"):
            open_loader(replaced(config, objective=Grouped())).set_state(state)
    finally:
        Grouped.group = 2


def test_weights_of_a_stage_count_tokens(make_cache, documents):
    """Whatever the unit of the Mixture that the run began with."""
    make_cache("short", documents(200, longest=6))
    make_cache("long", documents(200, longest=90))
    stage = Stage(1, sources={"short": 0.5, "long": 0.5})
    config = DataConfig(make_cache.folder, "short", CausalLM(), batch_size=8, length=32, stages=[stage], prefetch=0)
    loader = open_loader(config)
    for _ in range(300):
        next(loader)
    tokens = loader.counters()["tokens_by_source"]
    assert tokens["short"] / sum(tokens.values()) == pytest.approx(0.5, abs=0.03)


def test_a_newer_setting_must_stand_at_its_default(config):
    """A state of an older version lacks a setting; a changed default of a known one is refused by name."""
    loader = open_loader(config)
    next(loader)
    state = json.loads(json.dumps(loader.get_state()))
    del state["identity"]["settings"]["isolate"]
    for source in state["identity"]["settings"]["parts"][0]["sources"].values():
        del source["objective"]["begin"]
    open_loader(config).set_state(state)
    with pytest.raises(UserError, match="isolate = nothing, the run has False"):
        open_loader(replaced(config, isolate=False)).set_state(state)
    with pytest.raises(UserError, match=r"objective.begin of a .* = nothing, the run has 'tokenizer'"):
        open_loader(replaced(config, objective=CausalLM(begin="tokenizer"))).set_state(state)
    state["identity"]["settings"]["packing"] = False  # the default it was made under
    with pytest.raises(UserError, match="packing = False, the run has True"):
        open_loader(config).set_state(state)


def test_streams_come_from_the_state(make_cache, documents):
    make_cache("a", documents(60))
    config = DataConfig(make_cache.folder, "a", CausalLM(), batch_size=8, length=16, streams=2, prefetch=0)
    loader = open_loader(config)
    next(loader)
    state, expected = loader.get_state(), next(loader)
    free = replaced(config, streams=None)
    assert free.open_streams == 8
    again = open_loader(free)
    again.set_state(state)
    assert again.summary()["streams"] == 2
    assert_equal(next(again), expected)
    with pytest.raises(UserError, match="streams = 2, of which 1 rows"):
        open_loader(replaced(free, accumulation=8)).set_state(state)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage(5, length=8), Stage(5, length=4)], "step 5 comes after step 5"),
        ([Stage(5, batch_size=6)], "from step 5: 6 rows .* are not a multiple of streams=4"),
        (
            [Stage(5, sources={"a": 1, "b": Source(1, objective=PrefixLM(bidirectional_prefix=True))})],
            "different fields",
        ),
        ([Stage(5, sources={"a": 0})], "the stage at step 5: sources: no source"),
        ([{"step": 5}], "must be a Stage"),
    ],
)
def test_bad_stages(stages, message):
    with pytest.raises(UserError, match=message):
        DataConfig("nowhere", "a", CausalLM(), batch_size=8, length=16, streams=4, stages=stages)


def test_bad_single_stages():
    with pytest.raises(UserError, match="changes nothing"):
        Stage(5)
    with pytest.raises(UserError, match=r"Stage.batch_size is 0"):
        Stage(2, batch_size=0)
    with pytest.raises(UserError, match=r"Stage.step is 0"):
        Stage(0, length=4)
    with pytest.raises(UserError, match="repeat=True"):
        DataConfig("nowhere", "a", CausalLM(), batch_size=8, length=16, stages=[Stage(5, length=4)], repeat=False)


def test_a_source_may_not_become_other_data(config):
    other = Stage(5, sources={"a": Source(1.0, name="b")})
    with pytest.raises(UserError, match=r"source 'a' is .*a/train and from step 5 .*b/train; give the second"):
        open_loader(replaced(config, stages=[other]))
