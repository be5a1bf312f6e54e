"""Attention against a loop over queries in numpy float64, for every kind of mask, forwards and backwards."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.layers import blockwise, masks


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


@pytest.mark.parametrize("length", [1, 63, 130])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_naive_form(name, length):
    case = CASES[name]
    causal, window, softcap = case.get("causal", True), case.get("window"), case.get("softcap")
    rng = np.random.default_rng(3)
    q = rng.normal(size=(2, 2, 3, length, 4))
    k, v = rng.normal(size=(2, 2, 2, length, 4))
    segments = np.sort(rng.integers(0, 4, (2, length)), axis=1) if case.get("segments") else None
    prefix = rng.integers(0, 2, (2, length)) if case.get("prefix") else None
    row = lambda array, b: None if array is None else array[b]  # noqa: E731
    mask = np.array(
        [
            [
                [sees(i, j, causal, window, row(segments, b), row(prefix, b)) for j in range(length)]
                for i in range(length)
            ]
            for b in range(2)
        ]
    )
    steps = jnp.arange(length)
    sight = masks.Sight(
        steps, steps, *(None if a is None else jnp.asarray(a) for a in (segments, segments, prefix, prefix))
    )
    built = masks.visible(sight, causal=causal, window=window)
    if built is not None:
        np.testing.assert_array_equal(np.broadcast_to(built, mask.shape), mask)
    form = blockwise.Form(causal, window, softcap, jnp.dtype("float32"), prefix is not None)
    ours = blockwise.attend(*(jnp.asarray(a, jnp.float32) for a in (q, k, v)), sight, form)
    np.testing.assert_allclose(ours, naive(q, k, v, mask, softcap), atol=2e-6)


@pytest.mark.parametrize("name", ["causal", "segments_window", "prefix", "softcap", "bidirectional"])
def test_gradient_equals_autodiff_of_plain_softmax(name):
    case, length = CASES[name], 130
    causal, window, softcap = case.get("causal", True), case.get("window"), case.get("softcap")
    keys = jax.random.split(jax.random.key(0), 6)
    q = jax.random.normal(keys[0], (2, 2, 3, length, 4))
    k, v = jax.random.normal(keys[1], (2, 2, 2, length, 4))
    segments = jnp.sort(jax.random.randint(keys[2], (2, length), 0, 4), axis=1) if case.get("segments") else None
    prefix = jax.random.randint(keys[3], (2, length), 0, 2) if case.get("prefix") else None
    steps = jnp.arange(length)
    sight = masks.Sight(steps, steps, segments, segments, prefix, prefix)
    form = blockwise.Form(causal, window, softcap, jnp.dtype("float32"), prefix is not None)
    weight = jax.random.normal(keys[4], q.shape)

    def plain(q, k, v):
        scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k)
        scores = scores if softcap is None else softcap * jnp.tanh(scores / softcap)
        mask = masks.visible(sight, causal=causal, window=window)
        scores = scores if mask is None else jnp.where(mask[:, None, None], scores, -jnp.inf)
        return jnp.sum(weight * jnp.einsum("BGRLS,BGSK->BGRLK", jax.nn.softmax(scores), v))

    def ours(q, k, v):
        return jnp.sum(weight * blockwise.attend(q, k, v, sight, form))

    for a, b in zip(jax.grad(ours, (0, 1, 2))(q, k, v), jax.grad(plain, (0, 1, 2))(q, k, v)):
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
            mask = masks.visible(masks.Sight(jnp.arange(length), jnp.arange(length)), causal=True, window=window)[0]
            met = np.zeros((length, length), bool)
            for rows, seen in blockwise.pairs(length, length, form):
                for columns in seen:
                    met[rows, columns] = True
                    assert mask[rows, columns].any()
                    assert blockwise.all_visible(rows, columns, form) == mask[rows, columns].all()
            assert not np.any(mask & ~met)
