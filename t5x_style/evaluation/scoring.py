"""What a model gives to metrics: answers, and log-probabilities of given answers, over any number of rows.

Rows are sorted by length and padded to a few lengths, so that little is computed for padding and every shape is
compiled once; results come back in the order asked for. A row is, as in training, the start id, the inputs, the
targets. Array suffixes: B rows, L tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.losses.chunked import token_log_probs
from t5x_style.progress import Progress

# Row lengths are rounded up to multiples of this; a finer grid compiles more often than it saves padding.
LENGTH_STEP = 64


def bucket(length: int) -> int:
    """`length` rounded up to a multiple of 64 and, above 512, of 256: bucket(1) == 64, bucket(600) == 768."""
    step = LENGTH_STEP if length <= 8 * LENGTH_STEP else 4 * LENGTH_STEP
    return max(step, -(-length // step) * step)


def batches(lengths: Sequence[int], batch_size: int) -> Iterator[tuple[list[int], int]]:
    """Indices of rows to compute together and the length to pad them to, longest first.

    Longest first, so that what does not fit in memory fails at once. Each batch holds at most `batch_size` rows.

    Example:
      list(batches([3, 70, 5], 2)) == [([1, 2], 128), ([0], 64)]
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield chosen, bucket(lengths[chosen[0]])


def cut(inputs: Sequence[Sequence[int]], budget: int, side: str) -> tuple[list[list[int]], int]:
    """Inputs of at most `budget` tokens, and how many were cut; `side` is what they lose, "left" or "right".

    Example:
      cut([[1, 2, 3], [4]], 2, "left") == ([[2, 3], [4]], 1)
    """
    kept = [
        list(row[len(row) - budget :] if side == "left" else row[:budget]) if len(row) > budget else list(row)
        for row in inputs
    ]
    return kept, sum(len(row) > budget for row in inputs)


@dataclasses.dataclass(frozen=True)
class ScoringSettings:
    """batch_size: rows at a time. start_id: first token of every row. bidirectional: inputs see each other."""

    batch_size: int
    start_id: int
    bidirectional: bool = False


def score_rows(
    inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], length: int, start_id: int
) -> dict[str, np.ndarray]:
    """Decoder fields of rows to score, padded to `length`.

    Example, start id 3, inputs [5, 6], targets [8, 1], length 5:
      decoder_input_tokens [3, 5, 6, 8, 0], decoder_target_tokens [5, 6, 8, 1, 0], decoder_loss_weights
      [0, 0, 1, 1, 0], decoder_causal_attention [1, 1, 1, 0, 0], decoder_segment_ids [1, 1, 1, 1, 0]
    """
    shape = (len(inputs), length)
    names = ("input_tokens", "target_tokens", "segment_ids", "causal_attention")
    fields = {f"decoder_{name}": np.zeros(shape, np.int32) for name in names}
    fields["decoder_loss_weights"] = np.zeros(shape, np.float32)
    for row, (prompt, answer) in enumerate(zip(inputs, targets)):
        tokens = [*prompt, *answer]
        total, prefix = len(tokens), len(prompt)
        fields["decoder_target_tokens"][row, :total] = tokens
        fields["decoder_input_tokens"][row, :total] = [start_id, *tokens[:-1]][:total]
        fields["decoder_segment_ids"][row, :total] = 1
        fields["decoder_loss_weights"][row, prefix:total] = 1
        fields["decoder_causal_attention"][row, : min(prefix + 1, total)] = 1
    return fields


class Scorer:
    """Summed log-probabilities of targets under a model.

    Args:
      model: hidden states and a head. settings: how rows are made.
    """

    def __init__(self, model: nnx.Module, settings: ScoringSettings):
        self._settings = settings
        graphdef, self._state = nnx.split(model)

        @jax.jit
        def sums(state: Any, fields: Mapping[str, jax.Array]) -> jax.Array:
            merged: Any = nnx.merge(graphdef, state)
            hidden_BLD = merged(
                fields["decoder_input_tokens"],
                segment_ids=fields["decoder_segment_ids"],
                causal_attention=fields["decoder_causal_attention"] if settings.bidirectional else None,
            )
            scores = token_log_probs(merged.head, hidden_BLD, fields["decoder_target_tokens"])
            return jnp.sum(scores.log_probs * fields["decoder_loss_weights"], axis=-1)

        self._sums = sums

    def __call__(self, inputs: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> list[float]:
        """The summed log-probability (nats) of each row's targets given its inputs; 0 for empty targets."""
        lengths = [len(prompt) + len(answer) for prompt, answer in zip(inputs, targets)]
        result = [0.0] * len(lengths)
        with Progress("score", len(lengths), "rows") as progress:
            for chosen, length in batches(lengths, self._settings.batch_size):
                missing = self._settings.batch_size - len(chosen)  # a full batch has a shape that is compiled already
                rows = [inputs[index] for index in chosen] + [[]] * missing
                answers = [targets[index] for index in chosen] + [[]] * missing
                fields = score_rows(rows, answers, length, self._settings.start_id)
                values = np.asarray(self._sums(self._state, fields))
                for index, value in zip(chosen, values):
                    result[index] = float(value)
                progress.advance(len(chosen))
        return result
