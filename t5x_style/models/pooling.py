"""Which token of a sequence a sentence-level head takes, also where several sequences lie in one row.

Rows of segment ids are [..., L] with 0 for padding; an index of -1 says that the segment is not in its row.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def first_tokens(segment_ids: jax.Array, segments: int | None = None) -> jax.Array:
    """Index of the first token of a row, padding on the left passed over: [..., L] -> [...]; or of each segment.

    Args:
      segments: how many a row may hold: [..., segments] for segment ids 1, 2, ..., segments.

    Example:
      first_tokens([[0, 1, 1, 2, 2, 2, 0]])              -> [1]
      first_tokens([[0, 1, 1, 2, 2, 2, 0]], segments=3)  -> [[1, 3, -1]]
    """
    held = _held(segment_ids, segments)
    return jnp.where(held.any(axis=-1), jnp.argmax(held, axis=-1), -1)


def last_tokens(segment_ids: jax.Array, segments: int | None = None) -> jax.Array:
    """Index of the last token, as `first_tokens`.

    Example:
      last_tokens([[0, 1, 1, 2, 2, 2, 0]])              -> [5]
      last_tokens([[0, 1, 1, 2, 2, 2, 0]], segments=3)  -> [[2, 5, -1]]
    """
    held = _held(segment_ids, segments)
    back = jnp.argmax(jnp.flip(held, axis=-1), axis=-1)
    return jnp.where(held.any(axis=-1), held.shape[-1] - 1 - back, -1)


def last_not_equal(tokens: jax.Array, pad_id: int) -> jax.Array:
    """Index of the rightmost token that is not the padding id: [..., L] -> [...], 0 where there is none.

    This is transformers' rule for classifiers over decoders. It differs from `last_tokens` where the padding id ends
    a text itself, such as an end id that also pads.

    Example, with 0 as padding:
      [[5, 6, 7, 0, 0], [0, 0, 5, 6, 7], [5, 0, 6, 0, 0], [0, 0, 0, 0, 0]]  ->  [2, 4, 2, 0]
    """
    return jnp.max(jnp.where(tokens != pad_id, jnp.arange(tokens.shape[-1]), 0), axis=-1)


def take(hidden: jax.Array, index: jax.Array) -> jax.Array:
    """Hidden states [..., L, embed] at [...] or [..., S] -> [..., embed] or [..., S, embed]; at -1: the first."""
    single = index.ndim == hidden.ndim - 2
    wanted = index[..., None] if single else index
    found = jnp.take_along_axis(hidden, jnp.maximum(wanted, 0)[..., None], axis=-2)
    return found[..., 0, :] if single else found


def _held(segment_ids: jax.Array, segments: int | None) -> jax.Array:
    if segments is None:
        return segment_ids > 0
    return segment_ids[..., None, :] == jnp.arange(1, segments + 1)[:, None]
