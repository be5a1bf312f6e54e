"""Late steps across examples run on the whole split; early ones on every shard."""

import functools

import pytest

from t5x_style.data.manifest import read_manifest
from tests.beam_pipelines.caching.small_tasks import (
    assert_as_seqio,
    hashes,
    placeholder_step,
    read_cache,
    run,
    tokenize,
    write_lines,
)
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")


def take(dataset, count):
    return dataset.take(count)


def by_example(dataset):
    return dataset.map(lambda e: {"targets": e["targets"][::-1]}).filter(lambda e: tf.size(e["targets"]) > 0)


def in_pieces(dataset):
    """Every example in pieces of two tokens: several of one, but of no other."""
    return dataset.flat_map(lambda e: tf.data.Dataset.from_tensors(e["targets"]).unbatch().batch(2)).map(
        lambda ids: {"targets": ids}
    )


def join_pairs(dataset):
    """Two neighbours become one example."""
    batches = dataset.ragged_batch(2)
    return batches.map(lambda e: {"targets": e["targets"].flat_values if hasattr(e["targets"], "flat_values") else e})


def last_of_batches(dataset):
    return dataset.padded_batch(2).unbatch()


def numbered(dataset):
    return dataset.enumerate(3).map(lambda n, e: {"targets": tf.concat([[tf.cast(n, tf.int32)], e["targets"]], 0)})


def running(dataset):
    return dataset.scan(0, lambda n, e: (n + 1, {"targets": tf.concat([[n], e["targets"]], 0)}))


def second_half(dataset):
    return dataset.concatenate(dataset)


CROSSING = {
    "take": functools.partial(take, count=3),
    "take_many": functools.partial(take, count=100),
    "join_pairs": join_pairs,
    "batch_and_unbatch": last_of_batches,
    "numbered": numbered,
    "running": running,
    "concatenate": second_half,
}


@pytest.mark.parametrize(
    ("step", "placeholder"),
    [
        *((step, True) for step in CROSSING),
        ("take", False),
        *(pytest.param(step, False, marks=pytest.mark.slow) for step in CROSSING if step != "take"),
    ],
)
def test_late_steps_across_examples_give_what_seqio_gives(add_task, tmp_path, step, placeholder):
    steps = [*tokenize(), *([placeholder_step()] if placeholder else []), CROSSING[step]]
    task = add_task(step, [*steps, seqio.preprocessors.append_eos])
    run(tmp_path, step, splits=("train",))
    expected = assert_as_seqio(tmp_path, task)
    assert len(expected) == {"take": 3, "join_pairs": 5, "concatenate": 18}.get(step, 9)
    assert len(read_manifest(tmp_path, step, "train").shards) == 1


@pytest.mark.parametrize("step", [by_example, in_pieces])
def test_steps_of_one_example_stay_apart(add_task, tmp_path, step):
    task = add_task("apart", [*tokenize(), placeholder_step(), step, seqio.preprocessors.append_eos])
    run(tmp_path, "apart", splits=("train",))
    assert_as_seqio(tmp_path, task)
    assert len(read_manifest(tmp_path, "apart", "train").shards) == 3


def test_early_steps_run_on_every_shard_in_the_order_of_the_shards(add_task, tmp_path):
    """As in seqio's own cache; 20 lines of a file are more than seqio reads of one before it goes to the next."""
    shards = [[f"{name}{number:02d}" for number in range(20)] for name in "ab"]
    pattern = write_lines(tmp_path / "long", shards)
    add_task("early", [functools.partial(take, count=2), *tokenize(), placeholder_step()], pattern=pattern)
    run(tmp_path / "early_cache", "early", splits=("train",))
    texts = [seqio.ByteVocabulary().decode(e["targets"]) for e in read_cache(tmp_path / "early_cache", "early")]
    assert texts == ["a00", "a01", "b00", "b01"]
    add_task("whole", [*tokenize(), placeholder_step()], pattern=pattern)
    run(tmp_path / "order", "whole", splits=("train",))
    texts = [seqio.ByteVocabulary().decode(e["targets"]) for e in read_cache(tmp_path / "order", "whole")]
    assert texts == [*shards[0], *shards[1]]
    # ... but the whole split as one unit is read in seqio's order
    task = add_task("late", [*tokenize(), placeholder_step(), functools.partial(take, count=30)], pattern=pattern)
    run(tmp_path / "late_cache", "late", splits=("train",))
    assert_as_seqio(tmp_path / "late_cache", task)


def test_whole_splits_are_rerun_like_shards(add_task, tmp_path):
    add_task("texts", [*tokenize(), placeholder_step(), functools.partial(take, count=8)])
    run(tmp_path / "a", "texts", splits=("train",))
    run(tmp_path / "b", "texts", splits=("train",))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    (path,) = (tmp_path / "a").rglob("*.array_record")
    before = path.stat().st_ino
    run(tmp_path / "a", "texts", splits=("train",))
    assert path.stat().st_ino == before
    (tmp_path / "lines/part-2.txt").write_text("another seven\n")
    run(tmp_path / "a", "texts", splits=("train",))
    assert path.stat().st_ino != before
    assert len(read_cache(tmp_path / "a", "texts")) == 7
