"""What goes wrong in a Task's own code is told in one line: Task, step, the end of the cause."""

import functools
import sys

import numpy as np
import pytest

from beam_pipelines.caching.failures import reason
from t5x_style.data.manifest import read_mixture
from t5x_style.errors import UserError
from tests.beam_pipelines.caching.small_tasks import pair, placeholder_step, plan, rows_source, run, tokenize
from tests.lazy import Lazy

LONG = "raise ValueError('no vocabulary\\n' + 'x' * 900 + '\\nin /data')"
tf, seqio = Lazy("tensorflow"), Lazy("seqio")
registry = Lazy("beam_pipelines.caching.registry")


def broken_lookup(dataset):
    return dataset.map(lambda e: {"targets": e["no_such_field"]})


def broken_shapes(dataset):
    def step(example):
        if tf.size(example["targets"]) > 2:
            return {"targets": tf.strings.length(example["targets"])}
        return example

    return dataset.map(step)


def no_dataset(dataset):
    return [1, 2]


def fails_on_nine(dataset):
    def step(tokens):
        if len(tokens) == 5 and tokens[0] == ord("e") + 3:
            raise LookupError("no answer\nfor eight")
        return tokens

    def wrapped(example):
        return {"targets": tf.ensure_shape(tf.numpy_function(step, [example["targets"]], tf.int32), [None])}

    return dataset.map(wrapped)


def fails_in_tensorflow(dataset):
    return dataset.map(lambda e: {"targets": e["targets"] + tf.cast(tf.strings.to_number("eight"), tf.int32)})


def identity(dataset):
    return dataset.map(lambda e: e)


def before_placeholder(dataset, sequence_length):
    return dataset


def caught(tmp_path, *names, **keywords):
    with pytest.raises(UserError) as error:
        run(tmp_path / "cache", *names, **keywords)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (broken_lookup, ["step 'broken_lookup' cannot be built", "KeyError: 'no_such_field'"]),
        (broken_shapes, ["step 'broken_shapes' cannot be built", "TypeError: Input 'input' of 'StringLength'"]),
        (no_dataset, ["step 'no_dataset' cannot be built", "returned a list"]),
        (fails_on_nine, ["step 'fails_on_nine' fails", "LookupError: no answer for eight", "shard 2", "example 1"]),
        (fails_in_tensorflow, ["step 'fails_in_tensorflow' fails", "could not correctly convert string: eight"]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_fails(add_task, tmp_path, step, told, late):
    place = [placeholder_step(), step] if late else [step, placeholder_step()]
    add_task("broken", [*tokenize(), *place, identity])
    message = caught(tmp_path, "broken", splits=("train",))
    assert message.startswith("Task 'broken'")
    assert "--skip broken" in message
    wanted = told if not (late and "fails" in told[0] and step is fails_in_tensorflow) else [told[1]]
    for part in wanted:
        assert part in message


def test_a_source_that_fails(add_task, tmp_path):
    def rows(split, shuffle_files, seed=None):
        raise OSError("disk on fire")

    add_task("burnt", tokenize(), source=seqio.FunctionDataSource(rows, splits=["train"]))
    assert "'burnt' split 'train': its source fails (OSError: disk on fire)" in caught(tmp_path, "burnt")
    add_task("gone", tokenize(), source=seqio.TextLineDataSource({"train": str(tmp_path / "nothing-*")}))
    assert "'gone' split 'train': its source lists no shard" in caught(tmp_path, "gone")

    class Offline(seqio.FunctionDataSource):
        def list_shards(self, split):
            raise ConnectionError("no network\nat all")

    add_task("offline", tokenize(), source=Offline(rows, splits=["train"]))
    assert "'offline': it cannot be planned" in caught(tmp_path, "offline")


def test_what_seqio_refuses(add_task, tmp_path):
    add_task("early_length", [*tokenize(), before_placeholder, placeholder_step()])
    message = caught(tmp_path, "early_length")
    assert "Task 'early_length': seqio refuses its preprocessors (ValueError: 'before_placeholder' has a" in message
    add_task("lacking", [*tokenize(), placeholder_step()], pair())
    add_task("vocabularies", [*tokenize(), placeholder_step()])
    assert "'vocabularies' is no name for a Task" in caught(tmp_path, "vocabularies")
    assert "'lacking': its examples do not fit (ValueError: Task dataset is missing" in caught(tmp_path, "lacking")


def test_one_bad_task_of_a_mixture_is_left_out(add_task, add_mixture, tmp_path, caplog):
    for name in ("good_a", "good_b"):
        add_task(name, [*tokenize(), placeholder_step()])
    add_task("bad", [*tokenize(), broken_lookup, placeholder_step()])
    add_mixture("inner", [("bad", 3.0), ("good_b", 1.0)])
    add_mixture("outer", [("good_a", 2.0), ("inner", 0.5), ("bad", functools.partial(np.divide, "x"))])
    assert "'bad'" in caught(tmp_path, "outer")
    output = tmp_path / "cache"
    with caplog.at_level("INFO"):
        manifests = run(output, "outer", splits=("train",), skip=("bad",))
    assert [manifest.task for manifest in manifests] == ["good_a", "good_b"]
    assert dict(read_mixture(output, "outer").rates) == {"good_a": 2.0, "good_b": 0.5}
    assert "left out: bad" in caplog.text
    with pytest.raises(UserError, match="--skip bed: no Task of this command; there are bad"):
        plan(output, "outer", skip=("bed",))
    with pytest.raises(UserError, match="leaves no Task"):
        plan(output, "good_a", skip=("good_a",))


def test_one_bad_task_among_several_is_left_out(add_task, tmp_path):
    """A Task that fails in planning, and one that fails on its data or gives none: named by --task, no Mixture."""
    add_task("good", [*tokenize(), placeholder_step()])
    add_task("random", [*tokenize(), placeholder_step(), lambda dataset: dataset.shuffle(9)])
    add_task("nine", [*tokenize(), fails_on_nine, placeholder_step()])
    add_task("none", [*tokenize(), lambda dataset: dataset.take(0), placeholder_step()])
    for bad in ("random", "nine", "none"):
        message = caught(tmp_path, "good", bad, splits=("train",))
        assert message.endswith(f"--skip {bad} leaves this Task out and caches the others")
        assert message.count("--skip") == 1
    assert "--skip" not in caught(tmp_path, "none", splits=("train",))
    manifests = run(tmp_path / "cache", "good", "random", "nine", splits=("train",), skip=("random", "nine"))
    assert [manifest.task for manifest in manifests] == ["good"]


@pytest.mark.parametrize(
    ("module", "text", "told", "remedy"),
    [
        (
            "broken_a",
            "raise ValueError('no vocabulary\\n' + 'x' * 900 + '\\nin /data')",
            "(ValueError: no vocabulary xx",
            "mend",
        ),
        ("broken_b", "import no_such_library", "(ModuleNotFoundError: No module named 'no_such_library')", "mend"),
        ("broken_c", "x = = 1", "(SyntaxError: invalid syntax (broken_c.py, line 1))", "mend"),
        ("no_package.broken", None, "No module named 'no_package'", "give a dotted module name"),
        ("broken_a.py", None, "No module named 'broken_a.py'", "give a dotted module name"),
        ("./broken_a", None, "", "give a dotted module name"),
    ],
    ids=["long", "library", "syntax", "package", "file", "path"],
)
def test_modules_that_cannot_be_imported(tmp_path, monkeypatch, module, text, told, remedy):
    monkeypatch.syspath_prepend(str(tmp_path))
    if text is None:
        (tmp_path / "broken_a.py").write_text("")
    else:
        (tmp_path / f"{module}.py").write_text(text)
    with pytest.raises(UserError) as error:
        registry.import_modules([module], None)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 600
    assert message.startswith(f"--module {module}: cannot be imported (")
    assert told in message
    assert f"); {remedy}" in message
    if module == "broken_a":
        assert " ... " in message
        assert "xx in /data); mend the module" in message
    sys.modules.pop("broken_a", None)


def test_the_end_of_a_cause():
    assert reason(ValueError("cannot read nine")) == "ValueError: cannot read nine"
    assert reason(KeyError("x")) == "KeyError: 'x'"
    assert reason(ValueError()) == "ValueError"
    text = "in user code:\n\n    File \"a.py\", line 3, in step  *\n\n    NameError: name 'y' is not defined\n"
    assert reason(NameError(text)) == "NameError: name 'y' is not defined"
    assert reason(ValueError("first line\nthe last line")) == "ValueError: the last line"
    assert len(reason(ValueError("x" * 1000))) < 310


def test_a_function_source_needs_no_shards(add_task, tmp_path):
    add_task("rows", tokenize(), source=rows_source(["a", "bc"]))
    (manifest,) = run(tmp_path, "rows")
    assert manifest.examples == 2
