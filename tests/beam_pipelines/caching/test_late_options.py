"""--stop_at_placeholder and --sequence_length: what stands behind the placeholder, left out or run at one length."""

import functools
import json

import pytest

from beam_pipelines import cache_tasks
from t5x_style.data.manifest import read_manifest
from t5x_style.errors import UserError
from tests.beam_pipelines.caching.small_tasks import (
    assert_as_seqio,
    hashes,
    pair,
    placeholder_step,
    read_cache,
    run,
    to_pair,
    to_targets,
    tokenize,
)
from tests.lazy import Lazy

tf, seqio = Lazy("tensorflow"), Lazy("seqio")
options = Lazy("beam_pipelines.caching.options")


def reverse(dataset):
    return dataset.map(lambda e: {"targets": e["targets"][::-1]})


def halve(dataset, sequence_length):
    """inputs: the first tokens, up to their length; targets: what follows."""
    cut = sequence_length["inputs"]
    return dataset.map(lambda e: {"inputs": e["targets"][:cut], "targets": e["targets"][cut:]})


def noise(dataset, sequence_length):
    return dataset.map(lambda e: {"targets": e["targets"] + tf.random.uniform([], 0, 2, tf.int32)})


def test_stopping_at_the_placeholder(add_task, tmp_path, caplog):
    add_task("plain", [*tokenize(), placeholder_step(), seqio.preprocessors.append_eos_after_trim])
    steps = [*tokenize(), placeholder_step(), halve, noise, reverse, seqio.preprocessors.append_eos_after_trim]
    add_task("pretraining", steps, pair())
    with caplog.at_level("INFO"):
        run(tmp_path, "plain", "pretraining", stop=True, splits=("train",))
    assert "pretraining: not run, since it stands behind the placeholder: halve, noise, reverse" in caplog.text
    plain, stopped = (read_manifest(tmp_path, name, "train") for name in ("plain", "pretraining"))
    for one, other in zip(read_cache(tmp_path, "plain"), read_cache(tmp_path, "pretraining"), strict=True):
        assert one["targets"].tolist() == other["targets"].tolist()
    assert (stopped.append_eos, stopped.trim) == (("targets",), {"targets": None})
    assert list(stopped.features) == ["targets"]  # inputs are not there yet
    assert stopped.code.endswith(", without halve noise reverse")
    assert len(plain.code) == 32
    before = hashes(tmp_path)
    run(tmp_path, "pretraining", stop=True, splits=("train",))
    assert hashes(tmp_path) == before


def test_another_choice_is_another_cache(add_task, tmp_path):
    steps = [*tokenize(), placeholder_step(), reverse]
    add_task("either", steps)
    run(tmp_path, "either", stop=True, splits=("train",))
    with pytest.raises(UserError, match="other code, features, vocabulary or options"):
        run(tmp_path, "either", splits=("train",))
    rename = functools.partial(seqio.preprocessors.rekey, key_map={"text": "targets"})
    add_task("nothing_yet", [to_targets, rename, placeholder_step(), reverse])
    with pytest.raises(UserError, match=r"at the placeholder there is none of its features targets.*without --stop"):
        run(tmp_path, "nothing_yet", stop=True)
    add_task("too_early", [to_targets, placeholder_step(), seqio.preprocessors.tokenize])
    with pytest.raises(UserError, match=r"at the placeholder feature 'targets' is string of rank 0.*without --stop"):
        run(tmp_path, "too_early", stop=True)


@pytest.mark.parametrize("append", ["append_eos", "append_eos_after_trim", "none"])
@pytest.mark.parametrize("placeholder", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_steps_of_one_length(add_task, tmp_path, append, placeholder):
    last = [] if append == "none" else [getattr(seqio.preprocessors, append)]
    place = [placeholder_step()] if placeholder else []
    task = add_task("by_length", [*tokenize(), *place, halve, *last], pair())
    run(tmp_path, "by_length", lengths="inputs=2,targets=3", splits=("train",))
    expected = assert_as_seqio(tmp_path, task, lengths={"inputs": 2, "targets": 3})
    assert {len(example["targets"]) for example in expected} >= {0 if append == "none" else 1, 3}
    manifest = read_manifest(tmp_path, "by_length", "train")
    assert manifest.code.endswith(", sequence_length inputs=2 targets=3")
    assert manifest.append_eos == (("targets",) if append == "append_eos_after_trim" else ())
    with pytest.raises(UserError, match="options"):
        run(tmp_path, "by_length", lengths="inputs=2,targets=4", splits=("train",))


def test_a_length_changes_only_who_asks(add_task, tmp_path, caplog):
    add_task("untouched", [*tokenize(), placeholder_step(), reverse, seqio.preprocessors.append_eos])
    run(tmp_path, "untouched", splits=("train",))
    run(tmp_path, "untouched", splits=("train",), lengths="targets=2")
    assert "no Task has a step behind its placeholder that asks for it" in caplog.text
    add_task("lacks_inputs", [*tokenize(), placeholder_step(), halve], pair())
    with pytest.raises(UserError, match=r"step 'halve' cannot be built \(KeyError: 'inputs'\)"):
        run(tmp_path, "lacks_inputs", lengths="targets=2")


def test_advice_can_be_followed(add_task, tmp_path):
    """What the messages say is done, and works."""
    steps = [*tokenize(), placeholder_step(), halve]
    add_task("a", steps, pair())
    with pytest.raises(
        UserError, match=r"'halve' depends.*--sequence_length inputs=512,targets=512.*--stop_at_"
    ) as error:
        run(tmp_path, "a", splits=("train",))
    assert "before the placeholder" not in str(error.value)
    run(tmp_path / "length", "a", splits=("train",), lengths="inputs=512,targets=512")
    run(tmp_path / "stop", "a", splits=("train",), stop=True)
    # random and length-dependent: seqio does not let it before the placeholder, and no length helps
    add_task("b", [*tokenize(), placeholder_step(), noise])
    with pytest.raises(UserError, match=r"'noise'.*is random.*--stop_at_placeholder.*SpanCorruption or UL2") as error:
        run(tmp_path, "b", splits=("train",), lengths="targets=4")
    assert "before the placeholder" not in str(error.value)
    run(tmp_path / "stop", "b", splits=("train",), stop=True)
    # random only, without a placeholder: it may stand before one
    shuffle = functools.partial(tf.data.Dataset.shuffle, buffer_size=4, seed=1)
    add_task("c", [*tokenize(), shuffle])
    with pytest.raises(
        UserError, match=r"put CacheDatasetPlaceholder\(\) before it, pass --stop.*or put Cache.*behind it"
    ):
        run(tmp_path, "c", splits=("train",))
    add_task("c_behind", [*tokenize(), shuffle, placeholder_step()])
    run(tmp_path / "early", "c_behind", splits=("train",))
    add_task("c_before", [*tokenize(), placeholder_step(), shuffle])
    run(tmp_path / "early", "c_before", splits=("train",), stop=True)


def test_command_line(add_task, tmp_path, capsys):
    add_task("lengths", [to_pair, seqio.preprocessors.tokenize, placeholder_step(), halve], pair())
    arguments = ["--task", "lengths", "--module", "json", "--splits", "train", "--output"]
    assert cache_tasks.main([*arguments, str(tmp_path / "a"), "--sequence_length", "inputs=2,targets=8"]) == 0
    assert cache_tasks.main([*arguments, str(tmp_path / "b"), "--stop_at_placeholder"]) == 0
    codes = [json.loads((tmp_path / name / "lengths/train/manifest.json").read_text())["code"] for name in "ab"]
    assert [code.partition(", ")[2] for code in codes] == ["sequence_length inputs=2 targets=8", "without halve"]
    for wrong in ("inputs", "inputs=0", "inputs=x", "inputs=1,inputs=2", "=3"):
        assert cache_tasks.main([*arguments, str(tmp_path / "c"), "--sequence_length", wrong]) == 2
        assert "write inputs=512,targets=114" in capsys.readouterr().err
