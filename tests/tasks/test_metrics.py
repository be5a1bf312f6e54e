import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics import accuracy, exact_match, names_in, rank_classification, rouge, set_f1


def test_accuracy_keeps_case_and_ignores_outer_space():
    assert accuracy(["a", "b", "c", "D"], ["a", " b\n", "x", "d"]) == {"accuracy": 0.5}


def test_exact_match_ignores_case_and_spacing():
    assert exact_match(["The  sum.", "b"], ["the sum.", "c"]) == {"exact_match": 0.5}


def test_rouge_by_hand():
    """Target "sum of two arrays", prediction "sum of arrays": 3 of 4 and 3 of 3 words, 1 of 3 and 1 of 2 pairs."""
    scores = rouge(["sum of two arrays"], ["sum of arrays"])
    assert scores["rouge1"] == pytest.approx(2 * 0.75 * 1.0 / 1.75)
    assert scores["rouge2"] == pytest.approx(2 * (1 / 3) * (1 / 2) / (1 / 3 + 1 / 2))
    assert scores["rougeLsum"] == pytest.approx(2 * 0.75 * 1.0 / 1.75)


def test_rouge_averages_and_takes_empty_predictions():
    assert rouge(["one two", "three"], ["one two", ""])["rouge1"] == pytest.approx(0.5)


def test_set_f1_by_hand():
    """{a, b} and {b, c}: F1 1/2; {x} and {x, y, z}: precision 1/3, recall 1, F1 1/2; equal sets: 1."""
    scores = set_f1(["a, b", "x", "m, *n"], ["b, c", "x y z", "n, m, m"])
    assert scores["set_f1"] == pytest.approx(2 / 3)
    assert scores["set_exact"] == pytest.approx(1 / 3)


def test_set_f1_of_nothing():
    assert set_f1(["a"], [""]) == {"set_f1": 0.0, "set_exact": 0.0}
    assert set_f1([""], ["123"]) == {"set_f1": 1.0, "set_exact": 1.0}


def test_names_in():
    assert names_in("x, *args, **kw_2; x") == {"x", "args", "kw_2"}


def test_rank_classification_by_sum_and_per_token():
    """Example 0: sums -3 > -4, but -3 / 1 < -4 / 4. Example 1: both rules agree. Rows come in any order."""
    targets = [((1, 1), True, 2), ((0, 0), True, 1), ((0, 1), False, 4), ((1, 0), False, 2)]
    scores = [-1.0, -3.0, -4.0, -2.0]
    assert rank_classification(targets, scores) == {"rank_accuracy": 1.0, "rank_accuracy_per_token": 0.5}


def test_rank_classification_shares_the_credit_of_ties():
    targets = [((0, option), option == 0, 1) for option in range(4)]
    assert rank_classification(targets, [-1.0] * 4)["rank_accuracy"] == 0.25
    assert rank_classification(targets, [-1.0, -1.0, -2.0, -2.0])["rank_accuracy"] == 0.5


def test_rank_classification_takes_minus_infinity_but_not_nan():
    targets = [((0, 0), True, 1), ((0, 1), False, 1)]
    assert rank_classification(targets, [-2.0, -math.inf])["rank_accuracy"] == 1.0
    with pytest.raises(ValueError, match="example 0, option 1 is not a number"):
        rank_classification(targets, [-2.0, math.nan])


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([((0, 0), True, 1), ((0, 0), False, 1)], "twice"),
        ([((0, 0), False, 1), ((0, 1), False, 1)], "exactly one correct"),
        ([((0, 0), True, 1), ((0, 1), True, 1)], "exactly one correct"),
    ],
)
def test_rank_classification_refuses_bad_rows(targets, message):
    with pytest.raises(ValueError, match=message):
        rank_classification(targets, [-1.0] * len(targets))


@pytest.mark.parametrize("metric", [accuracy, exact_match, rouge, set_f1, rank_classification])
def test_lengths_are_checked(metric):
    with pytest.raises(ValueError, match="1 targets but 2"):
        metric(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="split is empty"):
        metric([], [])


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_a_perfect_prediction_scores_one(texts):
    assert accuracy(texts, texts)["accuracy"] == 1.0
    assert exact_match(texts, texts)["exact_match"] == 1.0
    assert set_f1(texts, texts) == {"set_f1": 1.0, "set_exact": 1.0}
