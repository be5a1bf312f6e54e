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

_Pair = tuple[jax.Array | None, jax.Array | None]  # of the queries, of the keys


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of an attention: order, window, soft cap, dtype of the softmax, whether prefixes exist."""

    causal: bool
    window: int | None
    softcap: float | None
    softmax_dtype: jnp.dtype
    prefix: bool = False


def blocks(queries: int, keys: int, form: Form) -> Iterator[tuple[slice, slice]]:
    """Query blocks and the keys each can see. Causal, length 130: (0:64, 0:64), (64:128, 0:128), (128:130, 0:130)."""
    size = max(MIN_BLOCK, -(-queries // MAX_BLOCKS))
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        first = 0 if form.window is None else max(0, start - form.window + 1)
        last = stop if form.causal and not form.prefix else keys
        yield slice(start, stop), slice(first, last)


def attend(
    q_BGRLK: jax.Array,
    k_BGSK: jax.Array,
    v_BGSK: jax.Array,
    sight: masks.Sight,
    form: Form,
    bias_GRD: jax.Array | None = None,
) -> jax.Array:
    """softmax(q k^T + bias) v with queries already scaled.

    Args:
      sight: queries and keys in the order of their slots; the same L slots where `form` is causal.
      bias_GRD: [G, R, L + S - 1] by distance, see positions/distance_bias.py.

    Returns:
      [B, G, R, L, K] in the dtype of v.
    """
    segments = (sight.query_segments, sight.key_segments)
    return _attend(form, q_BGRLK, k_BGSK, v_BGSK, segments, (sight.query_prefix, sight.key_prefix), bias_GRD)


def _toeplitz(bias_GRD: jax.Array, queries: int, where: tuple[slice, slice]) -> jax.Array:
    """The scores' biases of one block, [G, R, block, keys]."""
    rows = jnp.arange(where[0].start, where[0].stop)[:, None]
    columns = jnp.arange(where[1].start, where[1].stop)[None, :]
    return bias_GRD[:, :, columns - rows + queries - 1]


def _diagonal_sums(scores_GRLS: jax.Array) -> jax.Array:
    """Sums by distance, [G, R, L + S - 1]: the transpose of `_toeplitz` for one block.

    Rows in reverse order, each padded by one row length too many and reshaped, lie shifted by one per row.
    """
    rows, columns = scores_GRLS.shape[-2:]
    padded = jnp.pad(scores_GRLS[:, :, ::-1], ((0, 0), (0, 0), (0, 0), (0, rows)))
    flat = padded.reshape(*scores_GRLS.shape[:2], -1)[..., : rows * (rows + columns - 1)]
    return flat.reshape(*scores_GRLS.shape[:2], rows, rows + columns - 1).sum(axis=2)


def _scores(form: Form, q: jax.Array, k: jax.Array) -> jax.Array:
    scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k, preferred_element_type=form.softmax_dtype)
    return scores if form.softcap is None else form.softcap * jnp.tanh(scores / form.softcap)


def _mask(form: Form, where: tuple[slice, slice], segments: _Pair, prefix: _Pair) -> jax.Array | None:
    """[B or 1, 1, 1, block, S], or None."""

    def part(array: jax.Array | None, where: slice) -> jax.Array | None:
        return None if array is None else array[:, where]

    queries, keys = where
    sight = masks.Sight(
        query_index=jnp.arange(queries.start, queries.stop, dtype=jnp.int32),
        key_index=jnp.arange(keys.start, keys.stop, dtype=jnp.int32),
        query_segments=part(segments[0], queries),
        key_segments=part(segments[1], keys),
        query_prefix=part(prefix[0], queries),
        key_prefix=part(prefix[1], keys),
    )
    mask = masks.visible(sight, causal=form.causal, window=form.window)
    return None if mask is None else mask[:, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form, q, k, v, segments, prefix, bias):
    return _forward(form, q, k, v, segments, prefix, bias)[0]


def _forward(form, q, k, v, segments, prefix, bias):
    outputs, normalizers = [], []
    for queries, keys in blocks(q.shape[3], k.shape[2], form):
        scores = _scores(form, q[:, :, :, queries], k[:, :, keys])
        if bias is not None:
            scores = scores + _toeplitz(bias, q.shape[3], (queries, keys)).astype(scores.dtype)
        mask = _mask(form, (queries, keys), segments, prefix)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(form.softmax_dtype).min)
        best = jnp.max(scores, axis=-1, keepdims=True)
        weights = jnp.exp(scores - best)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = jnp.einsum("BGRLS,BGSK->BGRLK", weights.astype(v.dtype), v[:, :, keys])
        outputs.append((out / total).astype(v.dtype))
        normalizers.append(best + jnp.log(total))
    out = jnp.concatenate(outputs, axis=3)
    return out, (q, k, v, segments, prefix, bias, out, jnp.concatenate(normalizers, axis=3))


def _backward(form, saved, d_out):
    q, k, v, segments, prefix, bias, out, normalizers = saved
    dtype = form.softmax_dtype
    d_out = d_out.astype(v.dtype)
    # sum over keys of weight * d_weight, from the output alone
    delta = jnp.sum(d_out.astype(dtype) * out.astype(dtype), axis=-1, keepdims=True)
    d_q = []
    d_k, d_v = jnp.zeros(k.shape, dtype), jnp.zeros(v.shape, dtype)
    d_bias = None if bias is None else jnp.zeros(bias.shape, dtype)
    for queries, keys in blocks(q.shape[3], k.shape[2], form):
        q_block, d_block = q[:, :, :, queries], d_out[:, :, :, queries]
        scores = _scores(form, q_block, k[:, :, keys])
        biased = scores if bias is None else scores + _toeplitz(bias, q.shape[3], (queries, keys)).astype(dtype)
        weights = jnp.exp(biased - normalizers[:, :, :, queries])
        mask = _mask(form, (queries, keys), segments, prefix)
        if mask is not None:
            weights = jnp.where(mask, weights, 0)
        d_weights = jnp.einsum("BGRLK,BGSK->BGRLS", d_block, v[:, :, keys], preferred_element_type=dtype)
        d_scores = weights * (d_weights - delta[:, :, :, queries])
        if d_bias is not None:
            nearest = keys.start - (queries.stop - 1) + q.shape[3] - 1  # the first distance of this block
            sums = _diagonal_sums(d_scores.sum(axis=0))
            d_bias = d_bias.at[:, :, nearest : nearest + sums.shape[-1]].add(sums)
        if form.softcap is not None:
            d_scores = d_scores * (1 - jnp.square(scores / form.softcap))
        d_scores, weights = d_scores.astype(q.dtype), weights.astype(v.dtype)
        d_q.append(jnp.einsum("BGRLS,BGSK->BGRLK", d_scores, k[:, :, keys]))
        part_k = jnp.einsum("BGRLS,BGRLK->BGSK", d_scores, q_block, preferred_element_type=dtype)
        part_v = jnp.einsum("BGRLS,BGRLK->BGSK", weights, d_block, preferred_element_type=dtype)
        d_k = d_k.at[:, :, keys].add(part_k)
        d_v = d_v.at[:, :, keys].add(part_v)
    d_q = jnp.concatenate(d_q, axis=3).astype(q.dtype)
    d_bias = None if d_bias is None else d_bias.astype(bias.dtype)
    return d_q, d_k.astype(k.dtype), d_v.astype(v.dtype), None, None, d_bias


_attend.defvjp(_forward, _backward)
