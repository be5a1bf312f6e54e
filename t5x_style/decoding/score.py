"""Log-probabilities of given targets: rank classification and perplexity."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.decoding.buckets import MIN_LENGTH, bucket, check_rows
from t5x_style.errors import UserError
from t5x_style.losses.chunked import token_log_probs
from t5x_style.models.decoder import Decoder


class Scores(NamedTuple):
    """Per example: log_probs float64 [N], natural log, summed over the target; tokens int64 [N], its length."""

    log_probs: np.ndarray
    tokens: np.ndarray


def score(
    model: Decoder,
    inputs: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    batch_size: int = 32,
    bidirectional_inputs: bool = False,
) -> Scores:
    """log p(target | input) for each pair.

    Worked example, input [2, 7] (2: start id), target [8, 9]: the model reads [2, 7, 8], and the scored predictions
    are those at 7 (of 8) and at 8 (of 9).

    Args:
      inputs: context ids, start id included, none empty. targets: ids to score; may be empty (log-probability 0).
      batch_size: rows that run together, longest first.
      bidirectional_inputs: the model was trained as a prefix LM and sees its input in both directions.

    Raises:
      UserError: different numbers of inputs and targets, an empty input, an id outside the vocabulary.
    """
    if len(inputs) != len(targets):
        raise UserError(f"score: {len(inputs)} inputs and {len(targets)} targets; give one target an input")
    check_rows(inputs, model.config.vocab_size, "input")
    check_rows([row for row in targets if len(row)], model.config.vocab_size, "target")
    graphdef, state = nnx.split(model)
    lengths = [len(a) + len(b) - 1 for a, b in zip(inputs, targets)]
    order = sorted(range(len(inputs)), key=lambda index: -lengths[index])
    log_probs = np.zeros(len(inputs), np.float64)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, length = bucket(len(rows)), bucket(max(lengths[row] for row in rows), MIN_LENGTH)
        arrays = _arrays([inputs[row] for row in rows], [targets[row] for row in rows], batch, length)
        if not bidirectional_inputs:
            arrays["prefix"] = None
        log_probs[rows] = np.asarray(_score(graphdef, state, **arrays), np.float64)[: len(rows)]
    return Scores(log_probs, np.array([len(row) for row in targets], np.int64))


def _arrays(
    inputs: list[Sequence[int]], targets: list[Sequence[int]], batch: int, length: int
) -> dict[str, np.ndarray | None]:
    names = ("tokens", "targets", "weights", "segments", "prefix")
    arrays = {name: np.zeros((batch, length), np.float32 if name == "weights" else np.int32) for name in names}
    for index, (context, target) in enumerate(zip(inputs, targets)):
        row = [*context, *target]
        size = len(row) - 1
        arrays["tokens"][index, :size] = row[:-1]
        arrays["targets"][index, :size] = row[1:]
        arrays["weights"][index, len(context) - 1 : size] = 1
        arrays["segments"][index, :size] = 1
        arrays["prefix"][index, : len(context)] = 1
    return dict(arrays)


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _score(graphdef, state, tokens, targets, weights, segments, prefix) -> jax.Array:
    model = nnx.merge(graphdef, state)
    hidden = model(tokens, segment_ids=segments, causal_attention=prefix)
    log_probs = token_log_probs(model.head, hidden, targets).log_probs
    return jnp.sum(log_probs * weights, axis=-1)
