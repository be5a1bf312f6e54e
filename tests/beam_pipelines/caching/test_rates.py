"""mixture.json: seqio's rate functions over what was cached."""

import functools

import pytest

from t5x_style.data.manifest import read_mixture
from t5x_style.errors import UserError
from tests.beam_pipelines.caching.small_tasks import placeholder_step, plan, run, tokenize, write_lines
from tests.lazy import Lazy

seqio = Lazy("seqio")


@pytest.fixture
def two_tasks(add_task, tmp_path):
    """nine: 9 examples (train), 1 (validation); two: 2 in both."""
    nine = add_task("nine", [*tokenize(), placeholder_step()])
    pattern = write_lines(tmp_path / "few", (["a"], ["bc", "d"]))
    two = add_task("two", [*tokenize(), lambda d: d.filter(lambda e: e["targets"][0] != 3 + ord("d"))], pattern=pattern)
    return nine, two


def rates(output, name="mixed"):
    return dict(read_mixture(output, name).rates)


def test_rates_from_the_examples_that_were_cached(two_tasks, add_mixture, tmp_path):
    count = seqio.mixing_rate_num_examples
    add_mixture("mixed", ["nine", "two"], default_rate=count)
    run(tmp_path / "a", "mixed", splits=("train",))
    assert rates(tmp_path / "a") == {"nine": 9.0, "two": 2.0}
    assert read_mixture(tmp_path / "a", "mixed").unit == "examples"
    for task in two_tasks:  # nothing of it stays with the Tasks
        assert task.cache_dir is None
        assert task.num_input_examples("train") is None
    add_mixture("capped", [("nine", functools.partial(count, maximum=4, temperature=2.0)), ("two", lambda task: 0.0)])
    run(tmp_path / "a", "capped", splits=("train",))  # its Tasks are cached already
    assert rates(tmp_path / "a", "capped") == {"nine": 2.0, "two": 0.0}
    add_mixture("raw", [("nine", lambda task: task.num_input_examples("train")), ("two", 0.5)])
    run(tmp_path / "a", "raw", splits=("validation",))
    assert rates(tmp_path / "a", "raw") == {"nine": 9.0, "two": 0.5}
    add_mixture(
        "by_tokens", [(name, lambda t: t.get_cached_stats("train")["targets_tokens"]) for name in ("nine", "two")]
    )
    run(tmp_path / "a", "by_tokens", splits=("train",))
    assert rates(tmp_path / "a", "by_tokens")["two"] == 3.0


def test_sub_mixtures(two_tasks, add_mixture, tmp_path):
    add_mixture("inner", ["nine", "two"], default_rate=seqio.mixing_rate_num_examples)
    add_mixture("mixed", [("inner", 22.0), ("two", 1.0)])
    run(tmp_path, "mixed", splits=("train",))
    assert rates(tmp_path) == pytest.approx({"nine": 18.0, "two": 5.0})
    run(tmp_path, "mixed", splits=("train",), skip=("nine",))
    assert rates(tmp_path) == pytest.approx({"two": 23.0})


def test_a_rate_that_cannot_be_computed_is_told_before_anything_is_cached(two_tasks, add_mixture, tmp_path):
    add_mixture("letters", ["nine", "two"], default_rate=seqio.mixing_rate_num_characters)
    with pytest.raises(
        UserError, match=r"the rate of 'nine'.*'text_chars' is not counted; there are examples, targets_tok"
    ):
        plan(tmp_path, "letters")
    assert not list(tmp_path.rglob("*.array_record"))
    add_mixture("mixed", ["nine", "two"], default_rate=seqio.mixing_rate_num_examples)
    message = r"split 'train' is not in the cache.*cached splits: validation.*cache the split it asks for"
    with pytest.raises(UserError, match=message):
        run(tmp_path / "v", "mixed", splits=("validation",))
    run(tmp_path / "v", "mixed", splits=("train", "validation"))  # the advice
    assert rates(tmp_path / "v") == {"nine": 9.0, "two": 2.0}
    run(tmp_path / "v", "mixed", splits=("validation",))  # train is there from before
    add_mixture("negative", [("nine", -1.0), ("two", 1.0)])
    with pytest.raises(UserError, match=r"'nine' is -1.0; correct its rate"):
        plan(tmp_path, "negative")
    add_mixture("zero", [("nine", 0.0), ("two", 0)])
    with pytest.raises(UserError, match="all of its rates are 0"):
        run(tmp_path / "z", "zero", splits=("train",))


def test_mixture_caches_its_tasks_once(two_tasks, add_mixture, tmp_path):
    add_mixture("inner", [("two", 1.0)])
    add_mixture("mixed", [("nine", lambda task: len(task.name) * 0.5), ("inner", 0.25)])
    manifests = run(tmp_path, "mixed", "nine", splits=("train",))
    assert [manifest.task for manifest in manifests] == ["nine", "two"]
    assert rates(tmp_path) == {"nine": 2.0, "two": 0.25}
