"""Attention over pairs of query and key blocks: keeps no scores for the backward pass, skips the pairs nobody sees.

The backward pass recomputes a pair's weights from the saved log-normalizer, as in FlashAttention (Dao et al. 2022,
algorithm 4), with blocks large enough for XLA's matrix products. No [B, H, L, L] array exists.

Array suffixes: B batch, G key/value heads, R query heads of one key/value head, L queries, S keys, K head_dim,
M = R * L rows of the products.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from t5x_style.models.layers import masks

# Blocks of at least 64 keep the products efficient; 4 of them skip 3/8 of a causal square, and the compiled program
# grows with the square of their number.
MIN_BLOCK = 64
MAX_BLOCKS = 4
# Where every query sees every key there is nothing to skip; fewer, larger products are faster.
UNORDERED_KEYS = 1024

_Pair = tuple[jax.Array | None, jax.Array | None]  # of the queries, of the keys


@dataclasses.dataclass(frozen=True)
class Form:
    """The static part of an attention: order, window, soft cap, dtype of the softmax, whether prefixes exist."""

    causal: bool
    window: int | None
    softcap: float | None
    softmax_dtype: jnp.dtype
    prefix: bool = False


def cut(length: int, smallest: int = MIN_BLOCK) -> tuple[slice, ...]:
    """Blocks of equal size but for the last. Example: cut(130) is (0:64, 64:128, 128:130)."""
    size = max(smallest, -(-length // MAX_BLOCKS))
    return tuple(slice(start, min(start + size, length)) for start in range(0, length, size))


def cut_keys(length: int, form: Form) -> tuple[slice, ...]:
    """Blocks of the keys: those of the queries where some pairs are skipped, up to 1,024 keys in one where none is."""
    return cut(length, MIN_BLOCK if form.causal or form.window is not None else UNORDERED_KEYS)


def pairs(queries: int, keys: int, form: Form) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Every query block with the key blocks that any of its queries sees.

    Example, causal, length 130: 0:64 with (0:64), 64:128 with (0:64, 64:128), 128:130 with all three.
    """
    for rows in cut(queries):
        yield rows, tuple(columns for columns in cut_keys(keys, form) if _meet(rows, columns, form))


def _meet(rows: slice, columns: slice, form: Form) -> bool:
    if form.causal and not form.prefix and columns.start >= rows.stop:
        return False
    return form.window is None or columns.stop > rows.start - form.window + 1


def all_visible(rows: slice, columns: slice, form: Form) -> bool:
    """Whether order and window hide nothing of a pair."""
    below = columns.stop <= rows.start + 1
    return not form.causal or (below and (form.window is None or rows.stop - columns.start <= form.window))


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
    """The scores' biases of one pair, [G, R, rows, columns]."""
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


def _settled(arrays: list[jax.Array]) -> list[jax.Array]:
    """Written out as they are on CPU, where XLA would turn the products of transposed blocks into slow ones."""
    return list(jax.lax.optimization_barrier(tuple(arrays))) if jax.default_backend() == "cpu" else arrays


def _over_batch(array: jax.Array) -> jax.Array:
    """The sum along the first axis: on CPU as a product, since XLA's reduction along it takes ten times as long."""
    if jax.default_backend() != "cpu":
        return array.sum(axis=0)
    return jnp.dot(jnp.ones(array.shape[0], array.dtype), array.reshape(array.shape[0], -1)).reshape(array.shape[1:])


def _blocks(array: jax.Array, axis: int, places: tuple[slice, ...]) -> dict[int, jax.Array]:
    """start -> block along `axis`."""
    return {where.start: jax.lax.slice_in_dim(array, where.start, where.stop, axis=axis) for where in places}


def _transposed(blocks: dict[int, jax.Array]) -> dict[int, jax.Array]:
    return dict(zip(blocks, _settled([block.swapaxes(-1, -2) for block in blocks.values()])))


def _rows(array_BGRLK: jax.Array) -> jax.Array:
    """[B, G, R, L, K] -> [B, G, M, K]: one product for all query heads of a key head."""
    batch, groups, each, length, dim = array_BGRLK.shape
    return array_BGRLK.reshape(batch, groups, each * length, dim)


def _product(a: jax.Array, b: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """[B, G, M, X] by [B, G, X, N]."""
    return jax.lax.dot_general(a, b, (((3,), (2,)), ((0, 1), (0, 1))), preferred_element_type=dtype)


def _capped(form: Form, q_BGRLK: jax.Array, k_BGKS: jax.Array) -> jax.Array:
    """Scores [B, G, R, L, S] before bias and mask."""
    scores = _product(_rows(q_BGRLK), k_BGKS, form.softmax_dtype).reshape(*q_BGRLK.shape[:4], -1)
    return scores if form.softcap is None else form.softcap * jnp.tanh(scores / form.softcap)


def _mask(form: Form, where: tuple[slice, slice], segments: _Pair, prefix: _Pair) -> jax.Array | None:
    """[B or 1, 1, 1, L, S] of one pair, or None where all of it is visible."""

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
    ordered = form.causal and not all_visible(queries, keys, form)
    mask = masks.visible(sight, causal=ordered, window=form.window if ordered else None)
    return None if mask is None else mask[:, None, None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(form, q, k, v, segments, prefix, bias):
    return _forward(form, q, k, v, segments, prefix, bias)[0]


def _forward(form, q, k, v, segments, prefix, bias):
    dtype = form.softmax_dtype
    at_queries, at_keys = cut(q.shape[3]), cut_keys(k.shape[2], form)
    q_blocks, v_blocks = _blocks(q, 3, at_queries), _blocks(v, 2, at_keys)
    k_transposed = _transposed(_blocks(k, 2, at_keys))
    outputs, normalizers = [], []
    for rows, seen in pairs(q.shape[3], k.shape[2], form):
        scores = []
        for columns in seen:
            score = _capped(form, q_blocks[rows.start], k_transposed[columns.start])
            if bias is not None:
                score = score + _toeplitz(bias, q.shape[3], (rows, columns)).astype(dtype)
            mask = _mask(form, (rows, columns), segments, prefix)
            scores.append(score if mask is None else jnp.where(mask, score, jnp.finfo(dtype).min))
        best = functools.reduce(jnp.maximum, [jnp.max(score, axis=-1, keepdims=True) for score in scores])
        weights = [jnp.exp(score - best) for score in scores]
        total = functools.reduce(jnp.add, [jnp.sum(weight, axis=-1, keepdims=True) for weight in weights])
        parts = [
            _product(_rows(weight.astype(v.dtype)), v_blocks[columns.start], dtype)
            for weight, columns in zip(weights, seen)
        ]
        out = functools.reduce(jnp.add, parts).reshape(*total.shape[:4], -1)
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
    at_queries, at_keys = cut(q.shape[3]), cut_keys(k.shape[2], form)
    q_blocks, d_blocks, k_blocks = _blocks(q, 3, at_queries), _blocks(d_out, 3, at_queries), _blocks(k, 2, at_keys)
    k_transposed, v_transposed = _transposed(k_blocks), _transposed(_blocks(v, 2, at_keys))
    q_transposed = _transposed({start: _rows(block) for start, block in q_blocks.items()})
    d_transposed = _transposed({start: _rows(block) for start, block in d_blocks.items()})
    z_blocks, delta_blocks = _blocks(normalizers, 3, at_queries), _blocks(delta, 3, at_queries)
    d_q = []
    d_k, d_v = _zeros(k_transposed, dtype), _zeros(v_transposed, dtype)  # [B, G, K, S]
    by_distance: dict[tuple[int, int, int], jax.Array] = {}  # (key start - query start, rows, columns) -> [G, R, L, S]
    for rows, seen in pairs(q.shape[3], k.shape[2], form):
        at, d_rows = rows.start, jnp.zeros((), dtype)
        for columns in seen:
            scores = _capped(form, q_blocks[at], k_transposed[columns.start])
            biased = scores
            if bias is not None:
                biased = scores + _toeplitz(bias, q.shape[3], (rows, columns)).astype(dtype)
            weights = jnp.exp(biased - z_blocks[at])
            mask = _mask(form, (rows, columns), segments, prefix)
            if mask is not None:
                weights = jnp.where(mask, weights, 0)
            d_weights = _product(_rows(d_blocks[at]), v_transposed[columns.start], dtype).reshape(weights.shape)
            d_scores = weights * (d_weights - delta_blocks[at])
            if bias is not None:
                (d_scores,) = _settled([d_scores])
                place, added = (columns.start - at, *d_scores.shape[-2:]), _over_batch(d_scores)
                by_distance[place] = by_distance[place] + added if place in by_distance else added
            if form.softcap is not None:
                d_scores = d_scores * (1 - jnp.square(scores / form.softcap))
            d_scores, weights = _settled([_rows(d_scores.astype(q.dtype)), _rows(weights.astype(v.dtype))])
            d_rows = d_rows + _product(d_scores, k_blocks[columns.start], dtype)
            d_k[columns.start] += _product(q_transposed[at], d_scores, dtype)
            d_v[columns.start] += _product(d_transposed[at], weights, dtype)
        d_q.append(d_rows.reshape(q_blocks[at].shape))
    d_bias = None if bias is None else _summed_by_distance(by_distance, bias, q.shape[3])
    return _joined(d_q, 3, q), _joined(_swapped(d_k), 2, k), _joined(_swapped(d_v), 2, v), None, None, d_bias


def _summed_by_distance(blocks: dict[tuple[int, int, int], jax.Array], bias: jax.Array, queries: int) -> jax.Array:
    """The gradient of `bias`: blocks of equal distance were added up, each is summed along its diagonals here."""
    total = jnp.zeros(bias.shape, next(iter(blocks.values())).dtype)
    for (offset, rows, _), block in blocks.items():
        nearest = offset - (rows - 1) + queries - 1  # the first distance of this block
        sums = _diagonal_sums(block)
        total = total.at[:, :, nearest : nearest + sums.shape[-1]].add(sums)
    return total.astype(bias.dtype)


def _zeros(blocks: dict[int, jax.Array], dtype: jnp.dtype) -> dict[int, jax.Array]:
    return {start: jnp.zeros(block.shape, dtype) for start, block in blocks.items()}


def _swapped(blocks: dict[int, jax.Array]) -> list[jax.Array]:
    return [block.swapaxes(-1, -2) for block in blocks.values()]


def _joined(blocks: list[jax.Array], axis: int, like: jax.Array) -> jax.Array:
    return jnp.concatenate(blocks, axis=axis).astype(like.dtype)


_attend.defvjp(_forward, _backward)
