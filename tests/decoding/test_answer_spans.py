"""Answers from start and end scores, against a loop over all spans."""

import numpy as np
import pytest

from t5x_style.decoding.answer_spans import Answer, best_answers
from t5x_style.errors import UserError


def test_the_worked_example():
    logits = np.array([[1, 0], [5, 1], [0, 4], [2, 9]])
    assert best_answers(logits, np.ones(4), max_tokens=2, count=3) == [
        Answer(3, 3, 11.0),
        Answer(1, 2, 9.0),
        Answer(2, 3, 9.0),
    ]


@pytest.mark.parametrize("seed", range(6))
def test_every_span_is_weighed(seed):
    random = np.random.default_rng(seed)
    length, most = 11, int(random.integers(1, 6))
    logits, allowed = random.normal(size=(length, 2)), random.random(length) > 0.3
    wanted = [
        (-(logits[start, 0] + logits[end, 1]), start, end)
        for start in range(length)
        for end in range(start, min(start + most, length))
        if allowed[start : end + 1].all()
    ]
    found = best_answers(logits, allowed, most, 5)
    assert [(answer.start, answer.end) for answer in found] == [(start, end) for _, start, end in sorted(wanted)[:5]]


def test_no_context_gives_no_answer():
    assert best_answers(np.zeros((3, 2)), np.zeros(3)) == []
    assert best_answers(np.zeros((0, 2)), np.zeros(0)) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 3)), np.ones(3)), "must be"),
        ((np.zeros((3, 2)), np.ones(2)), "must be"),
        ((np.zeros((3, 2)), np.ones(3), 0), "max_tokens is 0"),
        ((np.zeros((3, 2)), np.ones(3), 1, 0), "count 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        best_answers(*arguments)
