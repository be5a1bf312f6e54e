"""Ids inside their vocabulary; numbers and arrays beside them, back as they were."""

import numpy as np
import pytest

from t5x_style.data.manifest import Feature, read_manifest
from t5x_style.errors import UserError
from tests.beam_pipelines.caching.small_tasks import (
    placeholder_step,
    read_cache,
    rows_source,
    run,
    targets,
    to_targets,
    tokenize,
)
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")


def ids_of(rows):
    """A source of rows of ids."""
    return rows_source({"targets": np.array(rows, np.int32)})


@pytest.mark.parametrize("bad", [-1, 259, 5_000_000])
def test_an_id_outside_the_vocabulary(add_task, tmp_path, bad):
    add_task("wild", [placeholder_step()], source=ids_of([[1, 2], [258, 0], [3, bad]]))
    with pytest.raises(
        UserError, match=rf"'wild' split 'train' shard 0 of 1.*example 2: feature 'targets' holds the id {bad},.*259"
    ) as error:
        run(tmp_path, "wild")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("manifest.json"))


def test_ids_of_no_known_vocabulary(add_task, tmp_path):
    features = {"targets": seqio.Feature(seqio.PassThroughVocabulary(70_000), add_eos=False)}
    add_task("passed", [placeholder_step()], features, ids_of([[1, 69_999]]))
    run(tmp_path, "passed")
    manifest = read_manifest(tmp_path, "passed", "train")
    assert manifest.features["targets"] == Feature("int32", 1, False, None, "ids", "uint32")
    assert (manifest.vocabularies, manifest.token_count) == ({}, 2)
    assert read_cache(tmp_path, "passed")[0]["targets"].tolist() == [1, 69_999]
    features = {"targets": seqio.Feature(seqio.PassThroughVocabulary(0), add_eos=False)}
    add_task("negative", [placeholder_step()], features, ids_of([[-1, 3]]))
    with pytest.raises(UserError, match=r"the id -1.*seqio.ContinuousFeature"):
        run(tmp_path, "negative")
    # the advice
    features = {"targets": seqio.ContinuousFeature(dtype=tf.int32)}
    add_task("declared", [placeholder_step()], features, ids_of([[-1, 3]]))
    run(tmp_path, "declared")
    assert read_manifest(tmp_path, "declared", "train").features["targets"].kind == "numbers"
    assert read_cache(tmp_path, "declared")[0]["targets"].tolist() == [-1, 3]


def test_numbers_and_arrays_come_back_as_they_were(add_task, tmp_path):
    random = np.random.default_rng(0)
    rows = {
        "targets": np.array([[5, 6], [7, 8]], np.int32),
        "spans": np.array([[0, 2, -1], [1, 2, 9]], np.int32),
        "scores": np.array([[0.5, -2.0], [1e-3, 3.0]], np.float32),
        "image": random.integers(0, 256, (2, 4, 3, 3), np.uint8),
        "pixels": random.integers(0, 256, (2, 6), np.uint8),
        "mel": random.normal(size=(2, 5, 2)),  # float64
        "half": random.normal(size=(2, 2, 2)).astype(np.float16),
        "mask": np.array([[True, False, True], [False, False, True]]),
        "label": np.array([3, 4], np.int64),
    }

    def cut(dataset):
        def step(e):
            return {**e, "image": e["image"][: e["targets"][0] - 3], "brain": tf.cast(e["mel"], tf.bfloat16)}

        return dataset.map(step)

    def continuous(dtype, rank):
        return seqio.ContinuousFeature(dtype=dtype, rank=rank)

    features = {
        **targets(),
        "spans": continuous(tf.int32, 1),
        "scores": continuous(tf.float32, 1),
        "image": seqio.Feature(seqio.PassThroughVocabulary(256), add_eos=False, dtype=tf.uint8, rank=3),
        "pixels": continuous(tf.uint8, 1),
        "mel": continuous(tf.float64, 2),
        "half": continuous(tf.float16, 2),
        "mask": continuous(tf.bool, 1),
        "label": continuous(tf.int64, 0),
        "brain": continuous(tf.bfloat16, 2),
    }
    task = add_task(
        "mixed_kinds", [cut, placeholder_step(), seqio.preprocessors.append_eos], features, rows_source(rows)
    )
    run(tmp_path, "mixed_kinds")
    manifest = read_manifest(tmp_path, "mixed_kinds", "train")
    kinds = {name: (feature.kind, feature.dtype, feature.shape) for name, feature in manifest.features.items()}
    assert kinds == {
        "targets": ("ids", "int32", None),
        "spans": ("numbers", "int32", None),
        "scores": ("numbers", "float32", None),
        "image": ("array", "uint8", (None, 3, 3)),
        "pixels": ("array", "uint8", (6,)),
        "mel": ("array", "float64", (5, 2)),
        "half": ("array", "float16", (2, 2)),
        "mask": ("array", "bool", (3,)),
        "label": ("array", "int64", ()),
        "brain": ("array", "float32", (5, 2)),
    }
    assert manifest.token_count == 4
    expected = list(task.get_dataset(None, "train", shuffle=False).as_numpy_iterator())
    for cached, wanted in zip(read_cache(tmp_path, "mixed_kinds"), expected, strict=True):
        for name in set(features) - {"targets"}:
            np.testing.assert_array_equal(cached[name], wanted[name].astype(cached[name].dtype))
            if manifest.features[name].kind == "array" and name != "brain":
                assert cached[name].dtype == wanted[name].dtype
        assert [*cached["targets"], 1] == wanted["targets"].tolist()


def test_shapes_that_no_shard_holds(add_task, tmp_path):
    def grow(dataset):
        return dataset.map(lambda e: {"targets": e["targets"][: e["targets"][0, 0], : e["targets"][0, 1]]})

    features = {"targets": seqio.ContinuousFeature(dtype=tf.int32, rank=2)}
    add_task("unknown", [grow, placeholder_step()], features, ids_of([[[1, 2], [3, 4]]]))
    with pytest.raises(UserError, match="at most one unknown dimension"):
        run(tmp_path, "unknown")
    add_task("texts", [to_targets], {"targets": seqio.ContinuousFeature(dtype=tf.string, rank=0)})
    with pytest.raises(UserError, match="'texts': feature 'targets' is string"):
        run(tmp_path, "texts")
    add_task("tokens", [*tokenize(), placeholder_step()])
    run(tmp_path, "tokens", splits=("validation",))
    assert read_manifest(tmp_path, "tokens", "validation").features["targets"].stored == "uint16"
