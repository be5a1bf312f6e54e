"""Attention against a loop over queries in numpy float64, for every kind of mask, forwards and backwards."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.layers import blockwise, masks, plain_attention


def naive(q, k, v, mask, softcap):
    """softmax(q k) v, one query at a time, float64; shapes as blockwise.attend's, mask [B, L, L]."""
    batch, groups, repeats, length, _ = q.shape
    out = np.zeros(q.shape)
    for b, g, r, i in np.ndindex(batch, groups, repeats, length):
        scores = k[b, g] @ q[b, g, r, i]
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        scores = np.where(mask[b, i], scores, -np.inf)
        weights = np.exp(scores - scores.max())
        out[b, g, r, i] = weights / weights.sum() @ v[b, g]
    return out


def sees(i, j, causal, window, segments, prefix):
    near = window is None or i - j < window
    order = (j <= i or bool(prefix is not None and prefix[i] and prefix[j])) if causal else True
    return near and order and (segments is None or segments[i] == segments[j])


CASES = {
    "causal": {},
    "bidirectional": {"causal": False},
    "window": {"window": 5},
    "wide_window": {"window": 100},
    "segments": {"segments": True},
    "segments_window": {"segments": True, "window": 70},
    "prefix": {"segments": True, "prefix": True},
    "prefix_window": {"prefix": True, "window": 9},
    "softcap": {"softcap": 2.0, "segments": True},
}


DIFFERENTIATED = ["causal", "segments_window", "prefix", "softcap", "bidirectional"]


def form_of(name):
    case = CASES[name]
    window, softcap, prefix = (case.get(what) for what in ("window", "softcap", "prefix"))
    return blockwise.Form(case.get("causal", True), window, softcap, jnp.dtype("float32"), prefix is not None)


def arrays(name, length):
    """(q, k, v), segments, prefix in NumPy; the last two None where the case has none."""
    case, rng = CASES[name], np.random.default_rng(3)
    q = rng.normal(size=(2, 2, 3, length, 4))
    k, v = rng.normal(size=(2, 2, 2, length, 4))
    segments = np.sort(rng.integers(0, 4, (2, length)), axis=1) if case.get("segments") else None
    prefix = rng.integers(0, 2, (2, length)) if case.get("prefix") else None
    return (q, k, v), segments, prefix


@functools.partial(jax.jit, static_argnums=0)
def attended(form, qkv, segments, prefix, weight):
    """The mask, our two attentions; with a weight the gradients of its sum, ours and those of plain softmax."""
    steps = jnp.arange(qkv[0].shape[3])
    sight = masks.Sight(steps, steps, segments, segments, prefix, prefix)
    mask = masks.visible(sight, causal=form.causal, window=form.window)

    at_once = plain_attention.attend(*qkv, sight, form)
    if weight is None:
        return mask, blockwise.attend(*qkv, sight, form), at_once

    def plain(q, k, v):
        scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k)
        scores = scores if form.softcap is None else form.softcap * jnp.tanh(scores / form.softcap)
        scores = scores if mask is None else jnp.where(mask[:, None, None], scores, -jnp.inf)
        return jnp.sum(weight * jnp.einsum("BGRLS,BGSK->BGRLK", jax.nn.softmax(scores), v))

    def ours(q, k, v):
        out = blockwise.attend(q, k, v, sight, form)
        return jnp.sum(weight * out), out

    gradient, out = jax.grad(ours, (0, 1, 2), has_aux=True)(*qkv)
    return mask, out, at_once, gradient, jax.grad(plain, (0, 1, 2))(*qkv)


@functools.cache
def found(name, length):
    qkv, segments, prefix = arrays(name, length)
    weight = np.random.default_rng(4).normal(size=qkv[0].shape) if name in DIFFERENTIATED and length == 130 else None
    return jax.tree.map(np.asarray, attended(form_of(name), qkv, segments, prefix, weight))


# Three blocks and a rest in `make test`; a row shorter than a block is the same program of one block.
NAMED = [(name, length) for name in CASES for length in (1, 63, 130)]
LENGTHS = [
    pytest.param(
        *case, marks=() if case[1] == 130 or case in (("causal", 1), ("prefix_window", 63)) else pytest.mark.slow
    )
    for case in NAMED
]


@pytest.mark.parametrize(("name", "length"), LENGTHS)
def test_equals_the_naive_form(name, length):
    form, (qkv, segments, prefix) = form_of(name), arrays(name, length)
    row = lambda array, b: None if array is None else array[b]  # noqa: E731
    mask = np.array(
        [
            [
                [sees(i, j, form.causal, form.window, row(segments, b), row(prefix, b)) for j in range(length)]
                for i in range(length)
            ]
            for b in range(2)
        ]
    )
    built, ours, at_once, *_ = found(name, length)
    if built is not None:
        np.testing.assert_array_equal(np.broadcast_to(built, mask.shape), mask)
    expected = naive(*qkv, mask, form.softcap)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    np.testing.assert_allclose(at_once, expected, atol=2e-6)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradient_equals_autodiff_of_plain_softmax(name):
    *_, ours, plain = found(name, 130)
    for a, b in zip(ours, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_pairs_are_those_that_somebody_sees():
    form = blockwise.Form(True, 10, None, jnp.dtype("float32"))
    first, second, third = slice(0, 64), slice(64, 128), slice(128, 130)
    assert list(blockwise.pairs(130, 130, form)) == [
        (first, (first,)),
        (second, (first, second)),
        (third, (second, third)),
    ]
    wide = dataclasses.replace(form, window=None)
    assert [len(seen) for _, seen in blockwise.pairs(100_000, 100_000, wide)] == [1, 2, 3, 4]
    for window in (None, 1, 2, 64, 65, 66, 200):
        for length in (1, 64, 65, 130, 259):
            form = dataclasses.replace(wide, window=window)
            back = np.arange(length)[:, None] - np.arange(length)
            mask = (back >= 0) & (back < (length if window is None else window))
            met = np.zeros((length, length), bool)
            for rows, seen in blockwise.pairs(length, length, form):
                for columns in seen:
                    met[rows, columns] = True
                    assert mask[rows, columns].any()
                    assert blockwise.all_visible(rows, columns, form) == mask[rows, columns].all()
            assert not np.any(mask & ~met)
