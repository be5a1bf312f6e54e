"""One padded batch of prompts: what a model is given before the first token is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style.decoding import cache as kv
from t5x_style.decoding.buckets import MIN_LENGTH, bucket, check_rows, left_padded, right_padded
from t5x_style.errors import UserError
from t5x_style.models.encoder_decoder import EncoderDecoder

# ids [L] of one unpadded prompt -> {"positions": [L] or [L, 2], "causal_attention": [L]}, both optional
Inputs = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PromptBatch:
    """Padded prompts.

    Attributes:
      tokens, segment_ids: [B, L], padding (segment 0) on the left. positions: [B, L] or [B, L, 2].
      causal_attention: [B, L], 1 on positions that see each other both ways; None where all are causal.
      encoder_tokens, encoder_segment_ids: [B, S], padding on the right; None without an encoder.
    """

    tokens: Any
    segment_ids: Any
    positions: Any
    causal_attention: Any = None
    encoder_tokens: Any = None
    encoder_segment_ids: Any = None


def decoder_rows(
    model: Any,
    count: int,
    decoder_start_id: int | None,
    decoder_prompts: Sequence[Sequence[int]] | None,
) -> list[list[int]] | None:
    """What the decoder of an EncoderDecoder starts from, one row a prompt; None for other models.

    Raises:
      UserError: no start id for an encoder-decoder, decoder options for a decoder, ids outside the vocabulary.
    """
    if not isinstance(model, EncoderDecoder):
        if decoder_start_id is not None or decoder_prompts is not None:
            raise UserError("decoder_start_id and decoder_prompts are for encoder-decoders; put the ids in the prompt")
        return None
    if decoder_start_id is None:
        raise UserError("an encoder-decoder needs decoder_start_id, the first id of its decoder (0 for T5)")
    if decoder_prompts is not None and len(decoder_prompts) != count:
        raise UserError(f"{len(decoder_prompts)} decoder_prompts for {count} prompts; give one a prompt")
    rows = [[decoder_start_id, *row] for row in decoder_prompts or [[]] * count]
    check_rows(rows, model.config.vocab_size, "decoder prompt")
    return rows


def decoder_batch(
    rows: Sequence[Sequence[int]], batch: int, *, bidirectional: bool = False, inputs: Inputs | None = None
) -> PromptBatch:
    """Pads prompts to `batch` rows and a bucket of their length.

    Args:
      bidirectional: all of a prompt sees itself both ways. inputs: positions and causal_attention of each prompt.
    """
    length = bucket(max(map(len, rows)), MIN_LENGTH)
    tokens, segments, positions = left_padded(rows, batch, length)
    prefix = segments.copy() if bidirectional else None
    if inputs is not None:
        for index, row in enumerate(rows):
            given = inputs(np.asarray(row, np.int32))
            start = length - len(row)
            if "positions" in given:
                place = np.asarray(given["positions"], np.int32)
                if place.ndim == 2 and positions.ndim == 2:
                    positions = np.stack([positions, np.zeros_like(positions)], axis=-1)
                positions[index, start:] = place
            if "causal_attention" in given:
                prefix = np.zeros_like(segments) if prefix is None else prefix
                prefix[index, start:] = given["causal_attention"]
    return PromptBatch(tokens, segments, positions, prefix)


def encoder_decoder_batch(
    rows: Sequence[Sequence[int]], decoder_rows: Sequence[Sequence[int]], batch: int
) -> PromptBatch:
    """Pads encoder inputs on the right and decoder prompts, start id included, on the left."""
    encoder = right_padded(rows, batch, bucket(max(map(len, rows)), MIN_LENGTH))
    # Nearly always the start id alone: a minimum would only add slots to look at.
    decoder = left_padded(decoder_rows, batch, bucket(max(map(len, decoder_rows))))
    return PromptBatch(*decoder, None, *encoder)


def prefill(model: Any, prompts: PromptBatch, room: int) -> tuple[Any, jax.Array]:
    """(a cache with `room` more slots that holds the prompts, hidden states of their last tokens [B, embed])."""
    batch, length = prompts.tokens.shape
    encoder = (prompts.encoder_tokens, prompts.encoder_segment_ids)
    cache = kv.begin(model, batch, length + room, *encoder)
    extra = {} if prompts.causal_attention is None else {"causal_attention": prompts.causal_attention}
    hidden, cache = model(
        prompts.tokens, segment_ids=prompts.segment_ids, positions=prompts.positions, cache=cache, **extra
    )
    return cache, hidden[:, -1]


def history(prompts: PromptBatch, room: int) -> jax.Array:
    """[B, L + room] ids of the prompts, -1 where there is no token: padding and the room."""
    known = jnp.where(prompts.segment_ids != 0, prompts.tokens, -1).astype(jnp.int32)
    return jnp.pad(known, ((0, 0), (0, room)), constant_values=-1)


def next_positions(positions: jax.Array) -> jax.Array:
    """[B, 1] or [B, 1, 2]: one further in the last column (of two-dimensional positions only the second grows)."""
    last = positions[:, -1:]
    return last + 1 if last.ndim == 2 else last + jnp.asarray([0, 1], last.dtype)
