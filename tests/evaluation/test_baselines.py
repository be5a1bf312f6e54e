"""Majority and chance by hand."""

import pytest

from t5x_style.evaluation import baselines


def test_majority():
    assert baselines.majority(["a", "b", "a"]) == ("a", 2 / 3)
    assert baselines.majority(["b", "a"]) == ("b", 0.5)  # the first of equally frequent ones
    with pytest.raises(ValueError, match="no answers"):
        baselines.majority([])


def test_options_of_different_numbers():
    found = baselines.of_options(
        [0, 0, 1, 1, 1, 1], ["x", "y", "x", "y", "z", "w"], [True, False] + [False, True, False, False]
    )
    assert found == {"majority": 0.5, "answer": "x", "chance": pytest.approx((1 / 2 + 1 / 4) / 2)}
