"""Position encodings: rotary kinds, ALiBi, T5's buckets, sinusoids; biases by distance equal plain matrices."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.config import RelativeBiasSpec, RopeScaling, RopeSpec
from t5x_style.models.layers import blockwise, masks
from t5x_style.models.layers.embedding import sinusoidal
from t5x_style.models.layers.positions import distance_bias, rope


def turned(x, spec, positions):
    return rope.apply(x, rope.tables(positions, spec, x.shape[-1]), spec)


@pytest.mark.parametrize(
    "spec",
    [
        RopeSpec(),
        RopeSpec(interleaved=True),
        RopeSpec(dim=4),
        RopeSpec(dim=4, interleaved=True),
        RopeSpec(two_dimensional=True),
        RopeSpec(scaling=RopeScaling("yarn", 4.0, original_length=8, attention_factor=1.0)),
    ],
)
def test_scores_depend_on_distance_only(spec):
    random = np.random.default_rng(0)
    q, k = (jnp.asarray(random.normal(size=(1, 5, 2, 8)), jnp.float32) for _ in range(2))
    steps = jnp.arange(5)[None]
    first = jnp.einsum("BLHK,BSHK->BHLS", turned(q, spec, steps), turned(k, spec, steps))
    later = jnp.einsum("BLHK,BSHK->BHLS", turned(q, spec, steps + 11), turned(k, spec, steps + 11))
    np.testing.assert_allclose(first, later, atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(turned(q, spec, steps), axis=-1), jnp.linalg.norm(q, axis=-1), rtol=1e-5)


def test_partial_rotation_leaves_the_rest():
    x = jnp.ones((1, 3, 1, 8))
    out = turned(x, RopeSpec(dim=4), jnp.arange(3)[None])
    np.testing.assert_array_equal(out[..., 4:], 1)
    assert float(jnp.abs(out[0, 2, 0, :4] - 1).max()) > 0.1


def test_interleaved_is_half_split_with_dimensions_in_another_order():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3, 8)), jnp.float32)
    order = jnp.array([0, 4, 1, 5, 2, 6, 3, 7])  # half-split dimensions side by side
    steps = jnp.arange(4)[None]
    plain = turned(x, RopeSpec(), steps)
    np.testing.assert_allclose(turned(x[..., order], RopeSpec(interleaved=True), steps), plain[..., order], atol=1e-6)


def test_two_dimensional_halves_follow_their_own_positions():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 3, 1, 8)), jnp.float32)
    spec = RopeSpec(two_dimensional=True)
    pair = jnp.array([[[0, 0], [7, 0], [7, 2]]])
    out = turned(x, spec, pair)
    np.testing.assert_allclose(out[0, 1, 0, 4:], x[0, 1, 0, 4:], atol=1e-6)  # block position 0 turns nothing
    half = turned(x[..., :4], RopeSpec(), pair[..., 0])
    np.testing.assert_allclose(out[..., :4], half, atol=1e-6)


def test_dynamic_scaling_starts_behind_the_original_length():
    spec = RopeSpec(scaling=RopeScaling("dynamic", 2.0, original_length=16))
    np.testing.assert_array_equal(rope.frequencies(spec, 8, 16), rope.frequencies(RopeSpec(), 8))
    assert float(rope.frequencies(spec, 8, 17)[-1]) < float(rope.frequencies(RopeSpec(), 8)[-1])


def test_alibi_slopes_of_the_paper():
    np.testing.assert_allclose(distance_bias.alibi_slopes(8), [2.0 ** -(i + 1) for i in range(8)])
    twelve = distance_bias.alibi_slopes(12)
    np.testing.assert_allclose(twelve[:8], distance_bias.alibi_slopes(8))
    np.testing.assert_allclose(twelve[8:], distance_bias.alibi_slopes(16)[:8:2])


def test_buckets_of_the_docstring():
    spec = RelativeBiasSpec(buckets=8, max_distance=16)
    distances = jnp.array([1, 0, -1, -2, -3, -4, -9, -20])
    assert distance_bias.bucket_of(distances, spec).tolist() == [0, 0, 1, 2, 3, 4, 6, 7]


def test_bidirectional_buckets_mirror():
    spec = RelativeBiasSpec(buckets=8, max_distance=16, bidirectional=True)
    distances = jnp.arange(1, 40)
    behind, before = distance_bias.bucket_of(distances, spec), distance_bias.bucket_of(-distances, spec)
    np.testing.assert_array_equal(behind, before + 4)
    assert int(before.max()) == 3


def test_sinusoids():
    values = sinusoidal(jnp.array([[0, 1]]), 6)
    np.testing.assert_allclose(values[0, 0], [0, 0, 0, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(values[0, 1, 0], math.sin(1), rtol=1e-6)
    np.testing.assert_allclose(values[0, 1, 2], math.sin(1e-4), rtol=1e-4)


@pytest.mark.parametrize(("queries", "keys", "causal"), [(130, 130, True), (130, 130, False), (70, 150, False)])
def test_bias_by_distance_equals_a_plain_matrix(queries, keys, causal):
    random = np.random.default_rng(1)
    q, k, v = (
        jnp.asarray(random.normal(size=shape), jnp.float32)
        for shape in ((2, 2, 3, queries, 4), (2, 2, keys, 4), (2, 2, keys, 4))
    )
    bias = jnp.asarray(random.normal(size=(2, 3, queries + keys - 1)), jnp.float32)
    form = blockwise.Form(causal, None, None, jnp.dtype("float32"))
    sight = masks.Sight(jnp.arange(queries), jnp.arange(keys))
    columns = jnp.arange(keys)[None] - jnp.arange(queries)[:, None] + queries - 1

    def plain(q, k, v, bias):
        scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k) + bias[:, :, columns]
        if causal:
            scores = jnp.where(jnp.tril(jnp.ones((queries, keys), bool)), scores, -jnp.inf)
        return jnp.einsum("BGRLS,BGSK->BGRLK", jax.nn.softmax(scores, axis=-1), v)

    weights = jnp.asarray(random.normal(size=(2, 2, 3, queries, 4)), jnp.float32)
    ours = jax.value_and_grad(lambda *x: jnp.sum(weights * blockwise.attend(*x[:3], sight, form, x[3])), (0, 1, 2, 3))
    theirs = jax.value_and_grad(lambda *x: jnp.sum(weights * plain(*x)), (0, 1, 2, 3))
    found, expected = ours(q, k, v, bias), theirs(q, k, v, bias)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3)
