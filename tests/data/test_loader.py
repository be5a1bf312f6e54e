import gc
import json
import os
import threading
import time

import numpy as np
import pytest

from t5x_style.data import DataConfig, Loader, Source, merge_states, open_loader
from t5x_style.data.manifest import Mixture, write_mixture
from t5x_style.data.objectives import CausalLM, PrefixLM
from t5x_style.errors import UserError

BOTH_WAYS = PrefixLM(bidirectional_prefix=True)
SMALL = {"batch_size": 4, "length": 16, "streams": 4, "prefetch": 0}


def config_of(make_cache, **options):
    defaults = {"cache_dir": make_cache.folder, "name": "docs", "objective": CausalLM()} | SMALL
    return DataConfig(**(defaults | options))


def segments_of(batches):
    """All segments of the batches as (source, tokens), row by row."""
    found = []
    for batch in batches:
        for micro in range(batch["source_ids"].shape[0]):
            for row in range(batch["source_ids"].shape[1]):
                segment_ids = batch["decoder_segment_ids"][micro, row]
                for number in range(1, int(segment_ids.max()) + 1):
                    mask = segment_ids == number
                    sources = set(batch["source_ids"][micro, row][mask].tolist())
                    assert len(sources) == 1
                    found.append((sources.pop(), batch["decoder_target_tokens"][micro, row][mask].tolist()))
    return found


def assert_equal(first, second):
    assert set(first) == set(second)
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_worked_example(make_cache):
    """One finite pass in file order, without packing: EOS appended, shifted, BOS 3, last batch filled up."""
    make_cache("docs", [{"targets": [5, 6]}, {"targets": []}, {"targets": [7]}, {"targets": [8, 9, 4, 5]}],
               append_eos=["targets"])  # fmt: skip
    config = config_of(make_cache, batch_size=2, length=4, packing=False, shuffle=False, repeat=False)
    batches = list(open_loader(config))
    assert [{name: array.tolist() for name, array in batch.items()} for batch in batches] == [
        {
            "decoder_input_tokens": [[[3, 5, 6, 0], [3, 7, 0, 0]]],
            "decoder_target_tokens": [[[5, 6, 1, 0], [7, 1, 0, 0]]],
            "decoder_loss_weights": [[[1, 1, 1, 0], [1, 1, 0, 0]]],
            "decoder_segment_ids": [[[1, 1, 1, 0], [1, 1, 0, 0]]],
            "decoder_positions": [[[0, 1, 2, 0], [0, 1, 0, 0]]],
            "source_ids": [[[0, 0, 0, -1], [0, 0, -1, -1]]],
        },
        {
            "decoder_input_tokens": [[[3, 8, 9, 4], [3, 0, 0, 0]]],
            "decoder_target_tokens": [[[8, 9, 4, 5], [1, 0, 0, 0]]],
            "decoder_loss_weights": [[[1, 1, 1, 1], [1, 0, 0, 0]]],
            "decoder_segment_ids": [[[1, 1, 1, 1], [1, 0, 0, 0]]],
            "decoder_positions": [[[0, 1, 2, 3], [0, 0, 0, 0]]],
            "source_ids": [[[0, 0, 0, 0], [0, -1, -1, -1]]],
        },
    ]


def test_start_id_and_vocabulary_without_bos(make_cache):
    make_cache("docs", [{"targets": [5, 6]}], bos_id=None, shards=1)
    options = {"batch_size": 1, "length": 4, "repeat": False}
    assert next(open_loader(config_of(make_cache, **options)))["decoder_input_tokens"].tolist() == [[[0, 5, 0, 0]]]
    config = config_of(make_cache, objective=CausalLM(start_id=7), **options)
    assert next(open_loader(config))["decoder_input_tokens"].tolist() == [[[7, 5, 0, 0]]]
    with pytest.raises(UserError, match="outside the vocabulary"):
        open_loader(config_of(make_cache, objective=CausalLM(start_id=10_000), **options))


def test_trim_comes_before_eos(make_cache):
    make_cache("docs", [{"targets": [5, 6, 7, 8]}], append_eos=["targets"], trim={"targets": 3}, shards=1)
    batch = next(open_loader(config_of(make_cache, batch_size=1, length=8, repeat=False)))
    assert batch["decoder_target_tokens"].tolist() == [[[5, 6, 1, 0, 0, 0, 0, 0]]]


def test_prefix_lm_batches(make_cache):
    make_cache("tune", [{"inputs": [5, 6], "targets": [8]}], append_eos=["targets"], shards=1)
    objective = PrefixLM(bidirectional_prefix=True)
    config = config_of(make_cache, name="tune", objective=objective, batch_size=1, length=6, repeat=False)
    batch = next(open_loader(config))
    assert batch["decoder_input_tokens"].tolist() == [[[3, 5, 6, 8, 0, 0]]]
    assert batch["decoder_target_tokens"].tolist() == [[[5, 6, 8, 1, 0, 0]]]
    assert batch["decoder_loss_weights"].tolist() == [[[0, 0, 1, 1, 0, 0]]]
    assert batch["decoder_causal_attention"].tolist() == [[[1, 1, 1, 0, 0, 0]]]
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == config.batch_shapes()


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("length", [16, 7, 100])
def test_a_finite_pass_holds_every_token_once(make_cache, documents, packing, shuffle, length):
    examples = documents(203, longest=40)
    make_cache("docs", examples, shards=3)
    loader = open_loader(
        config_of(make_cache, repeat=False, packing=packing, shuffle=shuffle, length=length, batch_size=6, streams=5)
    )
    batches = list(loader)
    expected = [
        (0, example["targets"][start : start + length].tolist())
        for example in examples
        for start in range(0, len(example["targets"]), length)
    ]
    found = segments_of(batches)
    assert sorted(found) == sorted(expected)
    if not packing and not shuffle:
        assert found == expected
    counters = loader.counters()
    tokens = sum(len(example["targets"]) for example in examples)
    assert counters["tokens"] == counters["loss_tokens"] == counters["tokens_by_source"]["docs"] == tokens
    assert counters["read_examples"] == 203
    assert counters["read_pieces"] == len(expected)
    assert counters["read_split"] == sum(len(example["targets"]) > length for example in examples)
    assert counters["batches"] == len(batches)
    assert counters["slots"] == counters["rows"] * length == 6 * length * len(batches)
    assert counters["padding_fraction"] == pytest.approx(1 - tokens / counters["slots"])
    with pytest.raises(StopIteration):
        next(loader)


def test_endless_epochs_hold_every_example_equally_often(make_cache, documents):
    examples = documents(60, longest=16, shortest=16)  # every example fills a row: a window is no obstacle
    make_cache("docs", examples)
    loader = open_loader(config_of(make_cache, streams=1))
    # 480 rows are 15 whole windows and 8 whole epochs.
    order = [tuple(tokens) for _, tokens in segments_of(next(loader) for _ in range(120))]
    known = {tuple(example["targets"].tolist()) for example in examples}
    assert [order.count(tokens) for tokens in known] == [8] * 60
    assert order[:60] != order[60:120]


def test_empty_trimmed_and_long_examples_are_counted(make_cache):
    make_cache(
        "tune",
        [
            {"inputs": [5], "targets": []},
            {"inputs": [], "targets": [6, 7]},
            {"inputs": list(range(10, 30)), "targets": [8]},
        ],
    )
    loader = open_loader(config_of(make_cache, name="tune", objective=PrefixLM(), repeat=False, length=16))
    assert sorted(segments_of(loader)) == [(0, [6, 7]), (0, [*range(15, 30), 8])]
    counters = loader.counters()
    assert (counters["read_examples"], counters["read_empty"], counters["read_trimmed"]) == (2, 1, 1)
    assert counters["read_tokens_trimmed"] == 5


def test_a_document_longer_than_many_windows(make_cache):
    document = np.arange(10, 10 + 16 * 150 + 3).astype(np.int32)
    make_cache("docs", [{"targets": document}, {"targets": [5, 6]}])
    loader = open_loader(config_of(make_cache, repeat=False, shuffle=False))
    chunks = [document[start : start + 16].tolist() for start in range(0, len(document), 16)]
    first = [next(loader) for _ in range(20)]
    assert len(json.dumps(loader.get_state()["streams"])) < 1000  # the chunks still to come are no part of the state
    again = open_loader(loader.config)
    again.set_state(loader.get_state())
    found = segments_of([*first, *again])
    assert sorted(found) == sorted([(0, chunk) for chunk in chunks] + [(0, [5, 6])])
    assert [tokens for _, tokens in found if len(tokens) == 16] == chunks[:-1]  # in order


# Resuming, and any number of hosts.


@pytest.fixture
def mixture(make_cache, documents):
    for index, name in enumerate(("a", "b", "c")):
        make_cache(name, documents(50 + 37 * index, seed=index, longest=20 + 30 * index), append_eos=["targets"])
    write_mixture(f"{make_cache.folder}/mix", Mixture("mix", "examples", {"a": 5.0, "b": 3.0, "c": 1.5}))
    return config_of(make_cache, name="mix", batch_size=16, accumulation=2, streams=4, length=32)


@pytest.mark.parametrize("stop", [1, 7, 8, 23])
@pytest.mark.parametrize("prefetch", [0, 3])
def test_resuming_is_exact(mixture, stop, prefetch):
    config = DataConfig(**(vars(mixture) | {"prefetch": prefetch}))
    with open_loader(config) as loader:
        for _ in range(stop):
            next(loader)
        state = json.loads(json.dumps(loader.get_state()))
        expected = [next(loader) for _ in range(20)]
        loader.set_state(state)  # backwards, in the same loader
        assert_equal(next(loader), expected[0])
    with open_loader(config) as loader:
        loader.set_state(state)
        assert loader.get_state() == state
        for batch in expected:
            assert_equal(next(loader), batch)


def test_the_state_is_small(mixture):
    loader = open_loader(mixture)
    for _ in range(40):
        next(loader)
    assert len(json.dumps(loader.get_state()["streams"])) < 1500


@pytest.mark.parametrize("length", [16, 32])
def test_resuming_a_finite_pass_is_exact(mixture, length):
    config = DataConfig(**(vars(mixture) | {"repeat": False, "length": length, "batch_size": 6}))
    expected = list(open_loader(config))
    assert len(expected) > 20
    for stop in (0, 1, 9, len(expected) - 1, len(expected)):
        first = open_loader(config)
        for _ in range(stop):
            next(first)
        second = open_loader(config)
        second.set_state(first.get_state())
        rest = list(second)
        assert len(rest) == len(expected) - stop
        for batch, other in zip(rest, expected[stop:]):
            assert_equal(batch, other)


def partitions(rows, hosts):
    return [part.tolist() for part in np.array_split(np.arange(rows), hosts)]


@pytest.mark.parametrize(
    "layouts",
    [
        [partitions(8, 1), partitions(8, 2), partitions(8, 4)],
        [partitions(8, 4), partitions(8, 1), partitions(8, 8)],  # more hosts than streams: two read each stream
        [[[0, 2, 4, 6], [7, 5, 3, 1]], partitions(8, 3)],  # not contiguous, not in order, not equal
    ],
)
def test_the_same_batches_on_any_number_of_hosts(mixture, layouts):
    whole = open_loader(mixture)
    state = None
    for layout in layouts:
        loaders = [open_loader(mixture, rows) for rows in layout]
        if state is not None:
            for loader in loaders:
                loader.set_state(state)
        for _ in range(9):
            expected = next(whole)
            for loader, rows in zip(loaders, layout):
                assert_equal(next(loader), {name: array[:, rows] for name, array in expected.items()})
        state = json.loads(json.dumps(merge_states([loader.get_state() for loader in loaders])))
        assert state == whole.get_state()


def test_a_process_opens_only_its_streams(mixture):
    assert open_loader(mixture, [0, 1]).summary()["open_streams"] == [0]
    assert open_loader(mixture, [2, 3, 4]).summary()["open_streams"] == [1, 2]
    assert open_loader(mixture).summary()["open_streams"] == [0, 1, 2, 3]


def test_finite_passes_end_together_on_all_hosts(mixture):
    config = DataConfig(**(vars(mixture) | {"repeat": False}))
    expected = list(open_loader(config))
    for rows in partitions(8, 4):
        batches = list(open_loader(config, rows))
        assert len(batches) == len(expected)
        for batch, whole in zip(batches, expected):
            assert_equal(batch, {name: array[:, rows] for name, array in whole.items()})


def test_accumulation_may_change(mixture):
    """The rows of a step are the same however they are cut into microbatches."""
    one = DataConfig(**(vars(mixture) | {"accumulation": 1}))
    first, second = open_loader(mixture), open_loader(one)
    for _ in range(5):
        rows = [sorted(next(loader)["decoder_target_tokens"].reshape(16, -1).tolist()) for loader in (first, second)]
        assert rows[0] == rows[1]
    state = first.get_state()
    second.set_state(state)
    assert second.get_state() == state


def test_bad_states(mixture):
    loader = open_loader(mixture)
    state = loader.get_state()
    for change, message in (
        ({"format": 9}, "format 9"),
        ({"format": 1}, "format 1, this version reads 2; start a new run"),
        ({"streams": {"0": state["streams"]["0"]}}, r"lacks the streams \[1, 2, 3\]"),
    ):
        with pytest.raises(UserError, match=message):
            loader.set_state(state | change)
    other = open_loader(mixture)
    next(other)
    with pytest.raises(UserError, match="of different data or steps"):
        merge_states([state, other.get_state()])
    with pytest.raises(UserError, match="stream 0 differs between processes"):
        merge_states([state, other.get_state() | {"batches": 0}])
    with pytest.raises(UserError, match="different data"):
        Loader.merge_states([state, state | {"identity": {}}])
    with pytest.raises(UserError, match="no state"):
        merge_states([])


# Mixtures.


def shares(loader, batches):
    for _ in range(batches):
        next(loader)
    counters = loader.counters()
    total = sum(counters["tokens_by_source"].values())
    return {name: count / total for name, count in counters["tokens_by_source"].items()}


def test_token_rates_are_respected(make_cache, documents):
    make_cache("short", documents(300, longest=6), append_eos=["targets"])
    make_cache("long", documents(300, longest=90), append_eos=["targets"])
    write_mixture(f"{make_cache.folder}/mix", Mixture("mix", "tokens", {"short": 1.0, "long": 3.0}))
    loader = open_loader(config_of(make_cache, name="mix", length=32, batch_size=8))
    assert shares(loader, 500)["short"] == pytest.approx(0.25, abs=0.01)
    assert loader.summary()["unit"] == "tokens"
    assert loader.summary()["group_rates"]["short"] > 0.7
    by_examples = open_loader(config_of(make_cache, name="mix", length=32, batch_size=8, unit="examples"))
    assert by_examples.summary()["group_rates"] == {"long": 0.75, "short": 0.25}
    assert shares(by_examples, 300)["short"] < 0.05


def test_token_rates_count_what_the_objective_keeps(make_cache):
    """Inputs that the row cuts off do not count: the mean is measured where the manifest cannot tell."""
    make_cache("cut", [{"inputs": list(range(10, 110)), "targets": [5, 6]}] * 40)
    make_cache("whole", [{"inputs": [7] * 6, "targets": [8, 9]}] * 40)
    write_mixture(f"{make_cache.folder}/mix", Mixture("mix", "tokens", {"cut": 1.0, "whole": 1.0}))
    loader = open_loader(config_of(make_cache, name="mix", objective=PrefixLM(), length=16))
    assert loader.summary()["group_rates"] == pytest.approx({"cut": 1 / 3, "whole": 2 / 3})
    assert shares(loader, 300)["cut"] == pytest.approx(0.5, abs=0.02)


def test_sources_that_do_not_fit(make_cache, documents):
    make_cache("good", documents(5))
    make_cache("other_tokenizer", documents(5), fingerprint="1" * 64)
    make_cache("nothing", [])
    make_cache("hollow", [{"targets": []}] * 3)
    write_mixture(f"{make_cache.folder}/two", Mixture("two", "examples", {"good": 1.0, "other_tokenizer": 1.0}))
    for name, options, message in (
        ("two", {}, "different vocabularies .*000000000000 and 111111111111"),
        ("nothing", {}, "holds no example"),
        ("hollow", {}, "every 'targets' is empty"),
        ("good", {"objective": CausalLM(feature="text")}, "has the features targets but CausalLM reads 'text'"),
        ("good", {"split": "test"}, "cached splits: train"),
        ("absent", {}, "--task absent"),
    ):
        with pytest.raises(UserError, match=message):
            open_loader(config_of(make_cache, name=name, **options))


def test_500_sources(make_cache):
    for index in range(500):
        make_cache(f"task{index:03d}", [{"targets": [5 + index] * 8}] * 3, shards=1)
    rates = {f"task{index:03d}": 1.0 + index % 7 for index in range(500)}
    write_mixture(f"{make_cache.folder}/mix", Mixture("mix", "examples", rates))
    threads, tasks = set(threading.enumerate()), len(os.listdir("/proc/self/task"))
    began = time.perf_counter()
    loader = open_loader(config_of(make_cache, name="mix", prefetch=2, batch_size=8))
    next(loader)
    assert time.perf_counter() - began < 10
    for _ in range(300):
        next(loader)
    seen = loader.counters()["tokens_by_source"]
    assert sum(count > 0 for count in seen.values()) == 500
    assert len(set(threading.enumerate()) - threads) < 20
    assert len(os.listdir("/proc/self/task")) - tasks < 150  # array_record's one pool of 64, and jax's
    loader.close()


def test_open_files_are_bounded(make_cache, documents):
    names = [f"task{index}" for index in range(6)]
    for index, name in enumerate(names):
        make_cache(name, documents(20, seed=index), shards=4)
    write_mixture(f"{make_cache.folder}/mix", Mixture("mix", "examples", dict.fromkeys(names, 1.0)))
    config = config_of(make_cache, name="mix")
    free, tight = open_loader(config), open_loader(config)
    tight._reader._limit = 8
    for _ in range(30):
        assert_equal(next(free), next(tight))
        assert tight._reader._open_shards <= 8
    assert free._reader._open_shards == 24


# The rest.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6, "streams": 4}, "not a multiple of streams=4; leave streams unset, or set it to 2"),
        ({"batch_size": 8, "accumulation": 3}, "not a multiple of accumulation 3"),
        ({"batch_size": 8, "accumulation": 4, "streams": 4}, "2 rows of a microbatch"),
        ({"length": 1}, "length is 1; lengths are whole numbers of at least 2"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 4.0}, "batch_size is 4.0"),
        ({"prefetch": -1}, "prefetch is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"unit": "bytes"}, "unit is 'bytes'"),
        ({"sources": {"a": -1.0}}, "weight of 'a' is -1.0"),
        ({"sources": {"a": float("nan")}}, "weight of 'a' is nan"),
        ({"sources": {"a": 0.0}}, "no source has a weight above 0"),
        ({"sources": {}}, "must be a mapping"),
        ({"sources": {"a": Source(1.0, objective="x")}}, "objective of 'a' is 'x'"),
        ({"sources": {"a": 1, "b": Source(1, objective=BOTH_WAYS)}}, "CausalLM and PrefixLM make different fields"),
        ({"length": {"encoder": 4}}, "CausalLM has the sides decoder"),
        ({"objective": None}, "DataConfig.objective is None"),
        ({"objective": "CausalLM"}, "must be an objective"),
        ({"name": ""}, "name is empty"),
    ],
)
def test_bad_configurations(options, message):
    with pytest.raises(UserError, match=message):
        DataConfig(**({"cache_dir": "nowhere", "name": "docs", "objective": CausalLM()} | SMALL | options))


def test_building_a_configuration_reads_nothing():
    config = DataConfig(cache_dir="/no/such/folder", name="docs", objective=CausalLM(), batch_size=8, length=16)
    with pytest.raises(UserError, match="/no/such/folder"):  # only opening does
        open_loader(config)


def test_a_finite_pass_takes_any_batch_size(make_cache, documents):
    make_cache("docs", documents(10))
    loader = open_loader(config_of(make_cache, batch_size=7, streams=4, repeat=False))
    assert next(loader)["source_ids"].shape == (1, 7, 16)


@pytest.mark.parametrize("rows", [[], [0, 0], [4], [-1]])
def test_bad_rows(make_cache, documents, rows):
    make_cache("docs", documents(10))
    with pytest.raises(UserError, match="rows"):
        open_loader(config_of(make_cache), rows)


def test_errors_of_the_background_thread_arrive(make_cache, documents):
    make_cache("docs", documents(400))
    loader = open_loader(config_of(make_cache, prefetch=2))

    def fail(places):
        raise UserError("a shard is gone")

    loader._plan.reader.read = fail
    for _ in range(2):
        with pytest.raises(UserError, match="a shard is gone"):
            next(loader)
    loader.close()


def test_closing(make_cache, documents):
    make_cache("docs", documents(50))
    before = set(threading.enumerate())
    loader = open_loader(config_of(make_cache, prefetch=2))
    next(loader)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["t5x_style-data"]
    loader.close()
    loader.close()
    assert not set(threading.enumerate()) - before
    with pytest.raises(UserError, match="closed"):
        next(loader)


def test_an_abandoned_loader_stops_its_thread(make_cache, documents):
    make_cache("docs", documents(50))
    before = set(threading.enumerate())
    loader = open_loader(config_of(make_cache, prefetch=1))
    next(loader)
    assert set(threading.enumerate()) - before
    del loader
    gc.collect()
    time.sleep(0.5)
    assert not set(threading.enumerate()) - before


def test_batches_are_not_reused(make_cache, documents):
    make_cache("docs", documents(50))
    loader = open_loader(config_of(make_cache))
    first = next(loader)
    copy = {name: array.copy() for name, array in first.items()}
    for _ in range(40):
        next(loader)
    assert_equal(first, copy)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "streams"), [(4, 1, 4), (3, 1, 3), (1, 1, 1), (34, 1, 2), (48, 1, 16), (64, 16, 4)]
)
def test_streams_are_chosen_from_the_batch_size(batch_size, accumulation, streams):
    """A batch of 4 rows was refused because streams was 8."""
    config = DataConfig("nowhere", "a", CausalLM(), batch_size=batch_size, accumulation=accumulation, length=8)
    assert config.open_streams == streams
