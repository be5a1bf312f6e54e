"""Log-probabilities of given targets: rank classification and perplexity."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.decoding.buckets import MIN_LENGTH, bucket, check_rows, right_padded
from t5x_style.decoding.prompts import Inputs, decoder_rows
from t5x_style.errors import UserError
from t5x_style.losses.chunked import token_log_probs


class Scores(NamedTuple):
    """Per example: log_probs float64 [N], natural log, summed over the target; tokens int64 [N], its length."""

    log_probs: np.ndarray
    tokens: np.ndarray


def score(
    model: Any,
    inputs: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    batch_size: int = 32,
    bidirectional_inputs: bool = False,
    row_inputs: Inputs | None = None,
    decoder_start_id: int | None = None,
) -> Scores:
    """log p(target | input) for each pair.

    Worked example, input [2, 7] (2: start id), target [8, 9]: a decoder reads [2, 7, 8], and the scored predictions
    are those at 7 (of 8) and at 8 (of 9). An encoder-decoder with start id 0 reads [2, 7] and, in its decoder, [0, 8].

    Args:
      model: a Decoder or an EncoderDecoder.
      inputs: context ids, start id included, none empty. targets: ids to score; may be empty (log-probability 0).
      batch_size: rows that run together, longest first.
      bidirectional_inputs: the model was trained as a prefix LM and sees its input in both directions.
      row_inputs: gives positions and causal_attention of one input where the model needs its own; the target's
        positions go on from the last one.
      decoder_start_id: an EncoderDecoder's first decoder id.

    Raises:
      UserError: different numbers of inputs and targets, an empty input, an id outside the vocabulary, options that do
        not fit the model.
    """
    if len(inputs) != len(targets):
        raise UserError(f"score: {len(inputs)} inputs and {len(targets)} targets; give one target an input")
    check_rows(inputs, model.config.vocab_size, "input")
    check_rows([row for row in targets if len(row)], model.config.vocab_size, "target")
    starts = decoder_rows(model, len(inputs), decoder_start_id, None)
    if starts is not None and (bidirectional_inputs or row_inputs is not None):
        raise UserError("score: bidirectional_inputs and row_inputs are for decoders, not for encoder-decoders")
    contexts = inputs if starts is None else starts
    graphdef, state = nnx.split(model)
    lengths = [len(a) + len(b) - 1 for a, b in zip(contexts, targets)]
    order = sorted(range(len(inputs)), key=lambda index: (-lengths[index], -len(inputs[index])))
    log_probs = np.zeros(len(inputs), np.float64)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch, length = bucket(len(rows)), bucket(max(lengths[row] for row in rows), MIN_LENGTH)
        arrays, targets_BL, weights_BL = _arrays(
            [contexts[row] for row in rows], [targets[row] for row in rows], batch, length, row_inputs
        )
        if starts is not None:
            encoder_length = bucket(max(len(inputs[row]) for row in rows), MIN_LENGTH)
            encoder = right_padded([inputs[row] for row in rows], batch, encoder_length)
            arrays |= dict(zip(("encoder_tokens", "encoder_segment_ids"), encoder))
        if not bidirectional_inputs and row_inputs is None:
            del arrays["causal_attention"]
        log_probs[rows] = np.asarray(_score(graphdef, state, arrays, targets_BL, weights_BL), np.float64)[: len(rows)]
    return Scores(log_probs, np.array([len(row) for row in targets], np.int64))


def _arrays(
    contexts: list[Sequence[int]],
    targets: list[Sequence[int]],
    batch: int,
    length: int,
    row_inputs: Inputs | None,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(arguments of the model, target ids, weights), arrays [batch, length] padded on the right."""
    tokens, targets_BL, segments, positions, prefix = (np.zeros((batch, length), np.int32) for _ in range(5))
    weights = np.zeros((batch, length), np.float32)
    for index, (context, target) in enumerate(zip(contexts, targets)):
        row = [*context, *target]
        size, known = len(row) - 1, min(len(context), len(row) - 1)
        tokens[index, :size] = row[:-1]
        targets_BL[index, :size] = row[1:]
        weights[index, len(context) - 1 : size] = 1
        segments[index, :size] = 1
        given = {} if row_inputs is None else row_inputs(np.asarray(context, np.int32))
        place = np.asarray(given.get("positions", np.arange(len(context))), np.int32)
        if place.ndim == 2 and positions.ndim == 2:
            positions = np.stack([positions, np.zeros_like(positions)], axis=-1)
        positions[index, :size] = continued(place, size)
        prefix[index, :known] = (np.ones(len(context)) if row_inputs is None else _prefix_of(given, context))[:known]
    arrays = {"tokens": tokens, "segment_ids": segments, "positions": positions, "causal_attention": prefix}
    return arrays, targets_BL, weights


def _prefix_of(given: Mapping[str, np.ndarray], context: Sequence[int]) -> np.ndarray:
    return np.asarray(given.get("causal_attention", np.zeros(len(context))))


def continued(positions: np.ndarray, length: int) -> np.ndarray:
    """Positions [L] or [L, 2] cut or carried on to `length`, one further a token in the last column.

    Example, [[0, 0], [1, 0], [1, 1]] carried on to 5: two more rows [1, 2], [1, 3].
    """
    more = np.arange(1, length - len(positions) + 1)
    step = more if positions.ndim == 1 else np.stack([np.zeros_like(more), more], axis=-1)
    return np.concatenate([positions, positions[-1:] + step])[:length]


@functools.partial(jax.jit, static_argnames=("graphdef",))
def _score(graphdef, state, arrays, targets, weights) -> jax.Array:
    model = nnx.merge(graphdef, state)
    hidden = model(**arrays)
    log_probs = token_log_probs(model.head, hidden, targets).log_probs
    return jnp.sum(log_probs * weights, axis=-1)
