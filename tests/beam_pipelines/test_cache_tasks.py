"""cache_tasks against seqio's own datasets, example by example, and what it refuses."""

import functools
import json
import random

import numpy as np
import pytest

from beam_pipelines import cache_tasks
from beam_pipelines.caching.manifests import merge_histograms
from beam_pipelines.jobs.runners import Runner
from t5x_style.data.manifest import LengthHistogram, read_manifest
from t5x_style.errors import UserError
from tests.beam_pipelines.caching.small_tasks import (
    assert_same,
    hashes,
    pair,
    placeholder_step,
    read_cache,
    run,
    to_pair,
    to_targets,
    tokenize,
    with_eos,
    write_lines,
)
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")
driver, planning = Lazy("beam_pipelines.caching.cache"), Lazy("beam_pipelines.caching.steps")
options = Lazy("beam_pipelines.caching.options")


@pytest.mark.parametrize("placeholder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_equals_seqio_example_by_example(add_task, tmp_path, placeholder):
    steps = [
        to_pair,
        seqio.preprocessors.tokenize,
        *([placeholder_step()] if placeholder else []),
        seqio.preprocessors.append_eos,
    ]
    task = add_task("pairs", steps, pair())
    output = tmp_path / "cache"
    manifests = run(output, "pairs")
    assert [(each.split, [shard.examples for shard in each.shards]) for each in manifests] == [
        ("train", [5, 1, 3]),
        ("validation", [1]),
    ]
    for split in ("train", "validation"):
        manifest = read_manifest(output, "pairs", split)
        expected = list(task.get_dataset(None, split, shuffle=False).as_numpy_iterator())
        cached = read_cache(output, "pairs", split)
        assert_same(with_eos(cached, manifest), expected, ("inputs", "targets"))
        assert manifest.append_eos == ("targets",)
        assert manifest.trim == {}
        assert manifest.examples == len(expected)
        assert manifest.tokens["inputs"] == sum(len(example["inputs"]) for example in expected)
        lengths = LengthHistogram.of(len(example["targets"]) for example in cached)
        assert sum(manifest.lengths["targets"].counts) == manifest.examples
        assert manifest.lengths["targets"].counts == lengths.counts
        vocabulary = manifest.vocabularies[manifest.features["targets"].vocabulary]
        assert (vocabulary.size, vocabulary.pad_id, vocabulary.eos_id, vocabulary.bos_id) == (259, 0, 1, None)


def test_reruns_are_byte_identical_and_skip_what_stands(add_task, tmp_path):
    add_task("texts", [*tokenize(), placeholder_step(), seqio.preprocessors.append_eos])
    run(tmp_path / "a", "texts")
    run(tmp_path / "b", "texts")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert len(hashes(tmp_path / "a")) == 4
    before = {path: path.stat().st_ino for path in (tmp_path / "a").rglob("*.array_record")}
    run(tmp_path / "a", "texts")
    assert before == {path: path.stat().st_ino for path in (tmp_path / "a").rglob("*.array_record")}


def test_a_failed_run_is_continued(add_task, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()

    def fail(text):
        if broken.exists() and text == b"nine":
            raise ValueError("cannot read nine")
        return text

    def check(dataset):
        return dataset.map(
            lambda e: {"targets": tf.ensure_shape(tf.numpy_function(fail, [e["targets"]], tf.string), ())}
        )

    add_task("fragile", [to_targets, check, seqio.preprocessors.tokenize, placeholder_step()])
    output = tmp_path / "cache"
    with pytest.raises(UserError, match=r"'fragile'.*'train' shard 2 of 3 .*part-2.txt.*example 2.*cannot read nine"):
        run(output, "fragile", splits=("train",))
    assert not (output / "fragile/train/manifest.json").exists()
    assert not list((output / "fragile/train").glob("*.tmp"))
    done = {path: path.stat().st_ino for path in (output / "fragile/train").glob("*.array_record")}
    assert len(done) == 2
    (output / "fragile/train/.00002-of-00003.array_record.x.tmp").write_bytes(b"half a shard of a killed run")
    broken.unlink()
    run(output, "fragile", splits=("train",))
    assert all(path.stat().st_ino == inode for path, inode in done.items())
    assert len(read_cache(output, "fragile", "train")) == 9
    assert not list((output / "fragile/train").glob("*.tmp"))


def test_changed_input_redoes_only_its_shard(add_task, tmp_path):
    add_task("texts", [*tokenize(), placeholder_step()])
    output = tmp_path / "cache"
    run(output, "texts", splits=("train",))
    inodes = {path.name: path.stat().st_ino for path in (output / "texts/train").glob("*.array_record")}
    (tmp_path / "lines/part-1.txt").write_text("another six\nand more\n")
    run(output, "texts", splits=("train",))
    after = {path.name: path.stat().st_ino for path in (output / "texts/train").glob("*.array_record")}
    assert [name for name in inodes if inodes[name] != after[name]] == ["00001-of-00003.array_record"]
    assert len(read_cache(output, "texts", "train")) == 10
    (tmp_path / "lines/part-3.txt").write_text("a fourth file\n")
    seqio.utils._list_files_for_glob.cache_clear()  # a new process would have none
    run(output, "texts", splits=("train",))
    assert (
        sorted(path.name for path in (output / "texts/train").glob("*.array_record"))[0]
        == "00000-of-00004.array_record"
    )
    assert len(list((output / "texts/train").glob("*.array_record"))) == 4


def test_other_code_in_the_same_folder_is_refused(add_task, tmp_path):
    def shout(dataset, suffix):
        return dataset.map(lambda example: {"targets": tf.strings.join([example["targets"], suffix])})

    def register(suffix):
        steps = [to_targets, functools.partial(shout, suffix=suffix), seqio.preprocessors.tokenize, placeholder_step()]
        return add_task("changing", steps)

    register("!")
    run(tmp_path / "cache", "changing")
    seqio.TaskRegistry.remove("changing")
    register("?")
    with pytest.raises(UserError, match="other code"):
        run(tmp_path / "cache", "changing")
    seqio.TaskRegistry.remove("changing")
    register("!")
    run(tmp_path / "cache", "changing")
    seqio.TaskRegistry.remove("changing")
    register("!")


def make_seeded():
    """What seqio's decorator makes of a step that is given a seed."""

    @seqio.map_over_dataset(num_seeds=1)
    def seeded(example, seed):
        noise = tf.random.stateless_uniform([1], seed, 0, 100, tf.int32)
        return {"targets": tf.concat([example["targets"], noise], 0)}

    return seeded


def calls_seeded(dataset):
    return make_seeded()(dataset)


def shuffle_rows(dataset):
    return dataset.shuffle(10, seed=0)


def draw(dataset):
    return dataset.map(lambda e: {"targets": e["targets"] % 200 + tf.random.uniform([], 0, 9, tf.int32)})


def draw_in_python(dataset):
    def add(tokens):
        return tokens % 200 + np.int32(random.randrange(50))

    def step(example):
        return {"targets": tf.ensure_shape(tf.numpy_function(add, [example["targets"]], tf.int32), [None])}

    return dataset.map(step)


def span_corruption(dataset, sequence_length, output_features):
    return dataset.map(lambda e: {"targets": e["targets"][: sequence_length["targets"]]})


def reverse(dataset):
    return dataset.map(lambda e: {"targets": e["targets"][::-1]})


def make_append_eos():
    return seqio.preprocessors.append_eos


def make_append_eos_after_trim():
    return seqio.preprocessors.append_eos_after_trim


def make_trim_dataset():
    return seqio.utils.trim_dataset


@pytest.mark.parametrize(
    ("step", "message"),
    [
        pytest.param(make_seeded, "'seeded'.*is random", id="seeded-'seeded'.*is random"),
        (calls_seeded, "'calls_seeded'.*is random"),
        (functools.partial(calls_seeded), "'calls_seeded'.*is random"),
        (shuffle_rows, "'shuffle_rows'.*is random.*the loader's own shuffling"),
        (draw, "'draw'.*is random.*RandomUniform"),
        (draw_in_python, "'draw_in_python'.*is random.*two runs"),
        (
            span_corruption,
            "'span_corruption'.*sequence length.*--sequence_length targets=512.*objective SpanCorruption",
        ),
    ],
)
@pytest.mark.parametrize("placeholder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_later_steps_that_cannot_be_cached_are_named(add_task, tmp_path, step, message, placeholder):
    step = step() if step is make_seeded else step
    add_task(
        "refused",
        [*tokenize(), *([placeholder_step()] if placeholder else []), reverse, step, seqio.preprocessors.append_eos],
    )
    with pytest.raises(UserError, match=message):
        run(tmp_path / "cache", "refused")
    assert not list((tmp_path / "cache").rglob("*.array_record"))


def test_deterministic_later_steps_run_once(add_task, tmp_path):
    task = add_task("reversed", [*tokenize(), placeholder_step(), reverse, seqio.preprocessors.append_eos])
    run(tmp_path / "cache", "reversed", splits=("train",))
    manifest = read_manifest(tmp_path / "cache", "reversed", "train")
    expected = list(task.get_dataset(None, "train", shuffle=False).as_numpy_iterator())
    assert_same(with_eos(read_cache(tmp_path / "cache", "reversed", "train"), manifest), expected, ("targets",))


def test_random_step_before_the_placeholder_is_fixed(add_task, tmp_path):
    add_task("early", [*tokenize(), draw, draw_in_python, placeholder_step(), reverse])
    run(tmp_path / "a", "early", splits=("train",))
    run(tmp_path / "b", "early", splits=("train",))
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


@pytest.mark.parametrize(
    ("steps", "later", "append_eos", "trim"),
    [
        ([make_append_eos], 0, ("targets",), {}),
        ([make_append_eos_after_trim], 0, ("targets",), {"targets": None}),
        ([(make_append_eos_after_trim, {"targets": 7})], 0, ("targets",), {"targets": 7}),
        ([reverse, make_trim_dataset], 1, (), {"inputs": None, "targets": None}),
        # an EOS that a later step moves has to be written
        ([make_append_eos, reverse], 2, (), {}),
        ([make_append_eos, make_append_eos], 1, ("targets",), {}),
        ([(make_trim_dataset, {"targets": 2})], 1, (), {}),
    ],
)
def test_what_becomes_a_loader_setting(add_task, steps, later, append_eos, trim):
    def made(step):
        if isinstance(step, tuple):
            return functools.partial(made(step[0]), sequence_length=step[1])
        return step() if step in (make_append_eos, make_append_eos_after_trim, make_trim_dataset) else step

    steps = [made(step) for step in steps]
    task = add_task("planned", [to_pair, seqio.preprocessors.tokenize, placeholder_step(), *steps], pair())
    plan = planning.plan_steps(task)
    assert (len(plan.early), len(plan.later), plan.append_eos, plan.trim) == (2, later, append_eos, trim)


def test_float_features_and_missing_features(add_task, tmp_path):
    def numbers(dataset):
        return dataset.map(lambda line: {"weights": tf.cast([tf.strings.length(line)], tf.float32) / 4})

    features = {"weights": seqio.ContinuousFeature(dtype=tf.float32, rank=1)}
    add_task("floats", [numbers, placeholder_step()], features)
    run(tmp_path, "floats", splits=("train",))
    manifest = read_manifest(tmp_path, "floats", "train")
    assert (manifest.features["weights"].dtype, manifest.features["weights"].vocabulary) == ("float32", None)
    assert [example["weights"].tolist() for example in read_cache(tmp_path, "floats", "train")][:3] == [
        [0.75],
        [0.75],
        [0.0],
    ]
    add_task("lacking", [*tokenize(), placeholder_step()], pair())
    with pytest.raises(UserError, match=r"'lacking'.*missing expected output feature.*inputs"):
        run(tmp_path, "lacking")
    add_task("deep", [*tokenize(), placeholder_step()], {"targets": seqio.Feature(seqio.ByteVocabulary(), rank=2)})
    with pytest.raises(UserError, match=r"incorrect rank for feature .targets."):
        run(tmp_path, "deep")


def test_empty_splits(add_task, tmp_path):
    pattern = write_lines(tmp_path / "sparse", (["one"], []))
    add_task("sparse", [*tokenize(), placeholder_step()], pattern=pattern)
    manifests = run(tmp_path / "cache", "sparse")
    assert [manifest.examples for manifest in manifests] == [1, 0]
    assert [shard.examples for shard in read_manifest(tmp_path / "cache", "sparse", "train").shards] == [1, 0]
    with pytest.raises(UserError, match="'sparse' gives no example in validation"):
        run(tmp_path / "cache2", "sparse", splits=("validation",))


def test_function_source_is_one_shard(add_task, tmp_path):
    def rows(split, shuffle_files, seed=None):
        assert not shuffle_files
        return tf.data.Dataset.from_tensor_slices(["a", "bc"])

    add_task("function", [*tokenize(), placeholder_step()], source=seqio.FunctionDataSource(rows, splits=["train"]))
    run(tmp_path, "function")
    assert [example["targets"].tolist() for example in read_cache(tmp_path, "function", "train")] == [[100], [101, 102]]


def test_unknown_names_and_splits(add_task, tmp_path, capsys):
    add_task("documents_small", [*tokenize(), placeholder_step()])
    arguments = ["--module", "json", "--output", str(tmp_path)]
    assert cache_tasks.main(["--task", "document_small", *arguments]) == 2
    assert "documents_small" in capsys.readouterr().err
    assert cache_tasks.main(["--task", "documents_small", *arguments, "--splits", "dev"]) == 2
    assert "train, validation" in capsys.readouterr().err
    assert cache_tasks.main(["--task", "x", "--module", "no_such_module", "--output", str(tmp_path)]) == 2
    assert "no_such_module" in capsys.readouterr().err
    assert cache_tasks.main(["--task", "x", "--output", "gs://bucket/x"]) == 2
    assert cache_tasks.main(["--task", "documents_small", *arguments, "--splits", "validation"]) == 0
    assert json.loads((tmp_path / "documents_small/validation/manifest.json").read_text())["examples"] == 1


def test_merge_histograms():
    lengths = [[0, 1, 9], [], [2, 3, 300]]
    merged = merge_histograms([LengthHistogram.of(part).counts for part in lengths])
    assert merged == LengthHistogram.of([length for part in lengths for length in part])


USER_MODULE = """
import os, seqio

FOLDER = os.environ.get("T5X_STYLE_DATA_DIR", "nowhere")
seqio.TaskRegistry.add(
    "user_lines",
    source=seqio.TextLineDataSource({"train": os.path.join(FOLDER, "part-*.txt")}),
    preprocessors=[
        lambda dataset: dataset.map(lambda line: {"targets": line}),
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
        lambda dataset: dataset.shuffle(9),
        seqio.preprocessors.append_eos,
    ],
    output_features={"targets": seqio.Feature(seqio.ByteVocabulary())},
)
"""


@pytest.mark.slow
def test_user_module_in_worker_processes(tmp_path, monkeypatch):
    write_lines(tmp_path / "lines")
    (tmp_path / "user_tasks_of_a_test.py").write_text(USER_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("T5X_STYLE_DATA_DIR", "somewhere else")
    contents = {}
    try:
        for workers in (1, 2):
            output = tmp_path / f"cache{workers}"
            plan = driver.make_plan(
                ["user_lines"],
                modules=("user_tasks_of_a_test",),
                output=str(output),
                data_dir=str(tmp_path / "lines"),
                options=options.Options(stop_at_placeholder=True),  # workers have them too
            )
            with Runner(workers=workers) as runner:
                (manifest,) = driver.cache(plan, runner)
            assert manifest.examples == 9
            contents[workers] = hashes(output), (output / "user_lines/train/manifest.json").read_bytes()
    finally:
        seqio.TaskRegistry.remove("user_lines")
    assert contents[1] == contents[2]


def test_few_bytes_are_not_worth_a_second_process(add_task, tmp_path):
    add_task("texts", [*tokenize(), placeholder_step()])
    plan = driver.make_plan(["texts"], modules=("json",), output=str(tmp_path / "cache"))
    assert sum(split.input_bytes for split in plan.splits) == sum(
        path.stat().st_size for path in [*(tmp_path / "lines").iterdir(), tmp_path / "lines/part-1.txt"]
    )
    assert driver.choose_workers(plan, 8, "local") == 1
    large = driver.dataclasses.replace(plan.splits[0], input_bytes=130 * 2**20)
    assert driver.choose_workers(driver.dataclasses.replace(plan, splits=(large,)), 8, "local") == 3
    assert driver.choose_workers(plan, 8, "dask") == 8
