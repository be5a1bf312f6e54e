"""Held-out sums become metrics: every term by its own weight, perplexity from the negative log-likelihood alone."""

import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.training.evaluation import told


def test_worked_example():
    totals = {"term/mlm": np.array([6.0, 3]), "term/nsp": np.array([1.0, 2]), "nll": np.array([6.0, 3])}
    values = told(totals, "held out")
    assert values == {"loss": 2.5, "nll": 2.0, "perplexity": pytest.approx(np.exp(2)), "tokens": 3.0}


def test_perplexity_leaves_z_loss_out():
    totals = {"term/cross_entropy": np.array([7.0, 2]), "nll": np.array([6.0, 2]), "z_loss": np.array([1.0, 2])}
    values = told(totals, "held out")
    assert (values["loss"], values["z_loss"]) == (3.5, 0.5)
    assert values["perplexity"] == pytest.approx(np.exp(3))


def test_vectors_and_metrics_without_weight_are_left_out():
    totals = {
        "term/a": np.array([2.0, 1]),
        "by_source": np.array([[1.0, 2.0], [1, 1]]),
        "accuracy": np.array([0.0, 0]),
    }
    assert told(totals, "held out") == {"loss": 2.0, "tokens": 1.0}


def test_data_without_a_token_is_refused():
    with pytest.raises(UserError, match="'held out' has no token to predict"):
        told({"term/a": np.array([0.0, 0])}, "held out")
