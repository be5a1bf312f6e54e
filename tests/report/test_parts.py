"""Pieces of the report by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.errors import UserError
from t5x_style.report import curation, evaluation, markup, samples, training, unigram


def test_entropy_by_hand():
    assert unigram.entropy(np.array([2, 1, 1, 0])) == pytest.approx(1.5 * math.log(2))
    assert unigram.entropy(np.full(8, 3)) == pytest.approx(math.log(8))
    assert unigram.entropy(np.array([0, 5])) == 0
    for wrong in ([], [0, 0], [3, -1]):
        with pytest.raises(ValueError, match="positive sum"):
            unigram.entropy(np.array(wrong))


def test_token_counts_include_the_appended_eos(quickstart):
    counts = unigram.token_counts(quickstart / "cache", "documents", "train")
    assert counts.tolist() == [0, 3, 0, 0, 0, 2, 1] + [0] * 57
    with pytest.raises(UserError, match="no feature 'words'"):
        unigram.token_counts(quickstart / "cache", "documents", "train", "words")


def test_funnel_problems():
    good = [
        {"name": "a", "in": 3, "kept": 2, "rejected": {"short": 1}},
        {"name": "b", "in": 2, "kept": 0, "rejected": {"long": 2}},
    ]
    assert curation.problems(good) == []
    assert curation.problems([]) == []
    broken = [{**good[0], "kept": 1}, good[1]]
    assert curation.problems(broken) == ["a: 3 in, but 1 kept + 1 rejected = 2", "b: 2 in, but a kept 1"]


def test_smooth_is_centred_and_short_at_the_ends():
    np.testing.assert_allclose(training.smooth([0, 3, 6, 9], 3), [1.5, 3, 6, 7.5])
    np.testing.assert_allclose(training.smooth([1, 5], 1), [1, 5])
    assert training.smooth([], 3).size == 0


def test_group_means_need_every_task():
    def entry(value):
        return {"metrics": {"rank_accuracy": value}}

    content = {
        "groups": [{"name": "g", "tasks": ["a", "b", "c", "absent"]}],
        "order": ["base", "tuned"],
        "models": {
            "base": {"tasks": {"a": entry(0.5), "b": entry(0.25), "c": {"metrics": {"rouge1": 1.0}}}},
            "tuned": {"tasks": {"a": entry(1.0)}},
        },
    }
    assert evaluation.group_means(content, "g", "rank_accuracy") == {"base": 0.375}
    assert evaluation.group_means(content, "none", "rank_accuracy") == {}
    assert evaluation.grouped_tasks(content) == [("g", ["a", "b", "c"])]


def test_tasks_without_a_group_come_last():
    content = {"groups": [{"name": "g", "tasks": ["a"]}], "models": {"m": {"tasks": {"z": {}, "a": {}}}}}
    assert evaluation.grouped_tasks(content) == [("g", ["a"]), (evaluation.OTHER, ["z"])]


def test_samples_pair_models_and_take_tasks_in_turn():
    def entry(*numbers, generated=True):
        extra = {"prediction": "p"} if generated else {"options": []}
        return {"samples": [{"example": n, **extra} for n in numbers]}

    content = {
        "groups": [],
        "order": ["base", "tuned"],
        "models": {
            "base": {"tasks": {"a": entry(3, 7), "b": entry(1), "c": entry(0, 1, generated=False)}},
            "tuned": {"tasks": {"a": entry(3, 7), "b": entry(2)}},
        },
    }
    chosen = samples.choose(content, 4)
    assert [(task, next(iter(found.values()))["example"]) for task, found in chosen] == [
        ("a", 3),
        ("b", 1),
        ("a", 7),
        ("c", 0),
    ]
    assert [sorted(found) for _, found in chosen] == [["base", "tuned"], ["base"], ["base", "tuned"], ["base"]]
    assert len(samples.choose(content, 1)) == 1


@given(st.text())
def test_escape_leaves_no_markup(text):
    escaped = markup.escape(text)
    assert not set("<>\"'") & set(escaped)
    assert markup.escape(escaped) is escaped
    escaped.encode("utf-8")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (3.21, "3.2 s"),
        (59.99, "60.0 s"),
        (75.4, "1 min 15 s"),
        (3600, "1 h 0 min"),
        (3599.9, "1 h 0 min"),
    ],
)
def test_duration(seconds, text):
    assert markup.duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(950, "950"), (12345, "12.3 k"), (1234567, "1.23 M"), (0, "0")])
def test_short(value, text):
    assert markup.short(value) == text


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("documentation_kind_template_heldout_rank", "kind (new wording), ranked"),
        ("documentation_kind", "kind"),
        ("my_task_rank", "my_task, ranked"),
    ],
)
def test_short_task(task, text):
    assert evaluation.short_task(task) == text


def test_tasks_with_the_same_examples_show_different_ones():
    entry = {"samples": [{"example": n, "prediction": "p"} for n in (4, 5, 6)]}
    content = {"groups": [], "order": ["m"], "models": {"m": {"tasks": dict.fromkeys("abcd", entry)}}}
    assert [found["m"]["example"] for _, found in samples.choose(content, 4)] == [4, 5, 6, 4]
