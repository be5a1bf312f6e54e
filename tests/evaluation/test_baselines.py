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
        [0, 0, 1, 1, 1, 1], ["x", "y", "x", "y", "z", "w"], [True, False, False, True, False, False]
    )
    assert found == {"majority": 0.5, "answer": "x", "chance": pytest.approx((1 / 2 + 1 / 4) / 2)}


def test_recorded_baselines_come_before_own_ones():
    entry = {"majority_accuracy": 0.2, "majority_set_f1": 0.3, "lead_rouge1": 0.4}
    recorded = {"tasks": {"a": {"splits": {"test": {"baselines": entry}}}}}
    own = {"majority": 0.5}
    metrics = ["rank_accuracy", "rank_accuracy_per_token", "accuracy", "set_f1", "rouge1", "rouge2"]
    expected = {"rank_accuracy": 0.2, "rank_accuracy_per_token": 0.2, "accuracy": 0.2, "set_f1": 0.3, "rouge1": 0.4}
    for name in ("a", "a_rank", "a_template_heldout", "a_template_heldout_rank"):
        assert baselines.for_metrics(name, metrics, own, recorded, "test") == expected
    assert baselines.for_metrics("a", metrics[:3], own, recorded, "validation") == dict.fromkeys(metrics[:3], 0.5)
    assert baselines.for_metrics("b", ["set_f1"], own, recorded, "test") == {}
