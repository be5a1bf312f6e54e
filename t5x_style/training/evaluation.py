"""The run's own loss on held-out data."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from t5x_style.errors import UserError
from t5x_style.training.feed import Feed
from t5x_style.training.run import TrainRun
from t5x_style.training.setup import Setup
from t5x_style.training.state import Arrays, TrainState

Totals = dict[str, tuple[np.ndarray | float, np.ndarray | float]]  # (sum, weight)


def evaluate(run: TrainRun, setup: Setup, open_loader: Any, state: TrainState, frozen: Arrays) -> dict[str, float]:
    """Sums over all batches, divided once.

    Returns:
      "loss" (the terms, each by its own weight), the loss's metrics, "perplexity" where there is an "nll", and
      "tokens", the weight of "nll", or where there is none the largest of a term.

    Raises:
      UserError: the data has nothing that counts.
    """
    evaluation = run.evaluation
    assert evaluation is not None
    trainable = state.trainable
    if evaluation.average is not None:
        average = state.extra[evaluation.average]["average"]
        trainable = {name: array.astype(trainable[name].dtype) for name, array in average.items()}
    feed = Feed(evaluation.data, setup, open_loader)
    totals: Totals = {}
    try:
        for index, batch in enumerate(feed.source):
            if evaluation.batches is not None and index >= evaluation.batches:
                break
            sums = jax.device_get(setup.eval_step(trainable, frozen, state.extra, feed.put(batch)[0]))
            for name, pair in sums.items():
                value, weight = (np.asarray(part, np.float64) for part in pair)
                before = totals.get(name, (0.0, 0.0))
                totals[name] = before[0] + value, before[1] + weight
    finally:
        feed.close()
    return told(totals, evaluation.data.name)


def told(totals: Totals, name: str) -> dict[str, float]:
    """Metrics of (sum, weight) pairs by name; terms begin with "term/".

    Worked example: {"term/mlm": (6, 3), "term/nsp": (1, 2), "nll": (6, 3)} gives loss 2.5, nll 2, perplexity e^2,
    tokens 3.
    """
    scalars = {key: (float(pair[0]), float(pair[1])) for key, pair in totals.items() if np.ndim(pair[0]) == 0}
    terms = {key: pair for key, pair in scalars.items() if key.startswith("term/")}
    if not any(weight for _, weight in terms.values()):
        raise UserError(f"evaluation data {name!r} has no token to predict")
    values = {"loss": sum(value / weight for value, weight in terms.values() if weight)}
    values |= {key: value / weight for key, (value, weight) in scalars.items() if key not in terms and weight}
    if "nll" in values:
        values["perplexity"] = float(np.exp(values["nll"]))
    values["tokens"] = scalars["nll"][1] if "nll" in scalars else max(weight for _, weight in terms.values())
    return values
