"""Position encodings: rotary kinds, ALiBi, T5's buckets, sinusoids; biases by distance equal plain matrices."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers import blockwise, masks
from t5x_style.models.layers.embedding import InputEmbedding, sinusoidal
from t5x_style.models.layers.positions import distance_bias, rope
from t5x_style.models.specs import FLOAT32, EmbeddingSpec, PositionSpec, RelativeBiasSpec, RopeScaling, RopeSpec


@functools.partial(jax.jit, static_argnames="blocks")
def embedded(tokens, pair, blocks):
    """Of [B, L, 2] positions and of the first of the two alone, and the tables of tokens, positions and blocks."""
    spec = EmbeddingSpec(positions=PositionSpec("learned", 9, blocks=blocks))
    with nnx.use_eager_sharding(False):
        embedding = InputEmbedding(16, 8, spec, policy=FLOAT32, rngs=nnx.Rngs(0), stddev=0.5)
    parts = (embedding, embedding.positions, embedding.block_positions)
    tables = [None if part is None else part.table[...] for part in parts]
    return embedding.embed(tokens, pair), embedding.embed(tokens, pair[..., 0]), *tables


def test_block_positions_have_a_table_of_their_own():
    tokens, pair = np.array([[3, 4, 5]]), np.array([[[0, 0], [2, 1], [2, 8]]])
    found, alone, table, first, second = map(np.asarray, embedded(tokens, pair, blocks=True))
    np.testing.assert_allclose(found, table[tokens] + first[pair[..., 0]] + second[pair[..., 1]], atol=1e-6)
    # positions alone: in no block, which is row 0
    np.testing.assert_allclose(alone, table[tokens] + first[pair[..., 0]] + second[0], atol=1e-6)
    beyond = pair.copy()
    beyond[0, 2, 1] = 9
    assert np.isnan(embedded(tokens, beyond, blocks=True)[0][0, 2]).all()  # a table has an end
    both, one, *_, blocks = embedded(tokens, pair, blocks=False)
    assert blocks is None
    np.testing.assert_array_equal(both, one)


def test_only_learned_positions_have_blocks():
    with pytest.raises(UserError, match="blocks needs kind"):
        PositionSpec("sinusoidal", blocks=True)


@functools.partial(jax.jit, static_argnames="spec")
def _turned(x, positions, spec):
    return rope.apply(x, rope.tables(positions, spec, x.shape[-1]), spec)


def turned(x, spec, positions):
    return np.asarray(_turned(x, positions, spec))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def frequencies(spec, dim, longest=0):
    return rope.frequencies(spec, dim, longest)


bucket_of = jax.jit(distance_bias.bucket_of, static_argnums=1)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Dynamic scaling is missing where positions grow: its frequencies follow the longest sequence.
STEADY = [
    RopeSpec(),
    RopeSpec(base=500.0, interleaved=True),
    RopeSpec(dim=4),
    RopeSpec(dim=4, interleaved=True),
    RopeSpec(two_dimensional=True),
    RopeSpec(two_dimensional=True, interleaved=True),
    RopeSpec(two_dimensional=True, dim=4),
    RopeSpec(scaling=RopeScaling("linear", 4.0)),
    RopeSpec(scaling=RopeScaling("llama3", 8.0, original_length=16)),
    RopeSpec(interleaved=True, scaling=RopeScaling("yarn", 4.0, original_length=8, attention_factor=1.0)),
]


# Shapes of the tests of all kinds, so that each kind is compiled once.
SHAPE = (2, 6, 3, 8)


def places(spec, steps):
    """[2, 6] positions of one kind or [2, 6, 2] of two equal ones."""
    steps = np.broadcast_to(steps, SHAPE[:2])
    return np.stack([steps] * 2, axis=-1) if spec.two_dimensional else steps


@pytest.mark.parametrize("spec", STEADY)
def test_scores_depend_on_distance_only(spec):
    q, k = normal(0, 2, *SHAPE)
    steps = np.arange(6)

    def scores(steps):
        return np.einsum("BLHK,BSHK->BHLS", *(turned(x, spec, places(spec, steps)) for x in (q, k)))

    np.testing.assert_allclose(scores(steps), scores(steps + 11), atol=1e-4)
    lengths = np.linalg.norm(turned(q, spec, places(spec, steps)), axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("spec", STEADY)
def test_turns_add_up_and_can_be_undone(spec):
    random = np.random.default_rng(2)
    first, second = (random.integers(-40, 40, (2, 6, 2) if spec.two_dimensional else (2, 6)) for _ in range(2))
    x = normal(2, *SHAPE)
    once = turned(x, spec, first)
    np.testing.assert_allclose(turned(once, spec, second), turned(x, spec, first + second), atol=2e-5)
    np.testing.assert_allclose(turned(once, spec, -first), x, atol=2e-5)
    assert float(np.abs(once - x).max()) > 0.5


@pytest.mark.parametrize("interleaved", [False, True])
def test_two_dimensional_scores_depend_on_both_distances(interleaved):
    spec = RopeSpec(two_dimensional=True, interleaved=interleaved)
    q, k = normal(3, 2, 1, 1, 1, 16)

    def score(query, key):
        pair = [turned(x, spec, np.array([[place]])) for x, place in ((q, query), (k, key))]
        return float(np.sum(pair[0] * pair[1]))

    near = score((5, 3), (2, 1))
    np.testing.assert_allclose(score((15, 23), (12, 21)), near, rtol=1e-4)  # each dimension moved by its own amount
    assert abs(score((6, 3), (2, 1)) - near) > 1e-2
    assert abs(score((5, 4), (2, 1)) - near) > 1e-2


def test_yarn_and_dynamic_stretch_but_keep_their_laws():
    x, steps = normal(4, 1, 20, 2, 8), np.arange(20)[None]
    yarn = RopeSpec(scaling=RopeScaling("yarn", 4.0, original_length=8))
    amplitude, lengths = 0.1 * math.log(4.0) + 1.0, np.linalg.norm(x, axis=-1)
    np.testing.assert_allclose(np.linalg.norm(turned(x, yarn, steps), axis=-1), amplitude * lengths, rtol=1e-5)
    dynamic = RopeSpec(scaling=RopeScaling("dynamic", 4.0, original_length=8))
    out = turned(x, dynamic, steps)
    np.testing.assert_allclose(np.linalg.norm(out, axis=-1), lengths, rtol=1e-5)
    # the longest position decides the frequencies of all: a shorter row of the same tokens turns otherwise
    assert float(np.abs(out[:, :9] - turned(x[:, :9], dynamic, steps[:, :9])).max()) > 1e-3


@pytest.mark.parametrize("spec", STEADY)
def test_every_position_of_a_long_row_turns_by_its_own_angle(spec):
    """Against complex numbers in float64, pair by pair: which dimensions turn together, by which position, how fast."""
    ends = np.array([0, 1, 17, 1000])
    pair = np.stack([ends, ends[::-1]], axis=-1)
    x = np.random.default_rng(5).normal(size=(4, 8))
    whole, where = np.zeros(SHAPE, np.float32), places(spec, np.zeros(6, int)).copy()
    whole[0, :4, 0], where[0, :4] = x, pair if spec.two_dimensional else ends
    found = turned(whole, spec, where)[0, :4, 0]
    expected, dim = x.copy(), spec.dim or 8
    parts = [(slice(0, dim), ends)]
    if spec.two_dimensional:
        parts = [(slice(0, dim // 2), pair[:, 0]), (slice(dim // 2, dim), pair[:, 1])]
    for where, own in parts:
        size = where.stop - where.start
        rates = np.asarray(frequencies(spec, size), np.float64)
        evens = slice(where.start, where.stop, 2) if spec.interleaved else slice(where.start, where.start + size // 2)
        odds = slice(where.start + 1, where.stop, 2) if spec.interleaved else slice(evens.stop, where.stop)
        numbers = (x[:, evens] + 1j * x[:, odds]) * np.exp(1j * own[:, None] * rates)
        expected[:, evens], expected[:, odds] = numbers.real, numbers.imag
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_frequencies_of_the_papers():
    np.testing.assert_allclose(frequencies(RopeSpec(), 8), [1.0, 1e-1, 1e-2, 1e-3], rtol=1e-5)
    halved = frequencies(RopeSpec(scaling=RopeScaling("linear", 2.0)), 8)
    np.testing.assert_allclose(halved, [0.5, 0.05, 0.005, 0.0005], rtol=1e-5)
    scaling = RopeScaling("llama3", 8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_length=100)
    kept = frequencies(RopeSpec(scaling=scaling), 8)
    turns = 100 / (2 * math.pi) * np.array([1.0, 1e-1, 1e-2, 1e-3])  # 15.9, 1.59, 0.159, 0.0159
    share = np.clip((turns - 1) / 3, 0, 1)
    np.testing.assert_allclose(kept, np.array([1.0, 1e-1, 1e-2, 1e-3]) * (share + (1 - share) / 8), rtol=1e-5)


def test_alibi_is_linear_in_the_distance():
    bias = jax.jit(distance_bias.alibi, static_argnums=0)(5, np.arange(-6, 1))
    assert bias.shape == (5, 7)
    np.testing.assert_array_equal(bias[:, -1], 0)
    np.testing.assert_allclose(np.diff(bias, axis=1), np.broadcast_to(distance_bias.alibi_slopes(5)[:, None], (5, 6)))


def test_alibi_slopes_of_forty_heads():
    """Baichuan-13B's: 32 of the power of two below, then every other one of 64."""
    slopes = distance_bias.alibi_slopes(40)
    np.testing.assert_allclose(slopes[:32], 2.0 ** (-np.arange(1, 33) / 4), rtol=1e-6)
    np.testing.assert_allclose(slopes[32:], 2.0 ** (-np.arange(1, 17, 2) / 8), rtol=1e-6)
    np.testing.assert_array_equal(distance_bias.alibi_slopes(1), [2.0**-8])


def test_partial_rotation_leaves_the_rest():
    out = turned(np.ones(SHAPE, np.float32), RopeSpec(dim=4), places(RopeSpec(dim=4), np.arange(6)))
    np.testing.assert_array_equal(out[..., 4:], 1)
    assert float(np.abs(out[0, 2, 0, :4] - 1).max()) > 0.1


def test_interleaved_is_half_split_with_dimensions_in_another_order():
    x = normal(0, *SHAPE)
    order = np.array([0, 4, 1, 5, 2, 6, 3, 7])  # half-split dimensions side by side
    steps = places(RopeSpec(), np.arange(6))
    plain = turned(x, RopeSpec(), steps)
    np.testing.assert_allclose(turned(x[..., order], RopeSpec(interleaved=True), steps), plain[..., order], atol=1e-6)


def test_two_dimensional_halves_follow_their_own_positions():
    x = normal(0, 1, 3, 1, 8)
    spec = RopeSpec(two_dimensional=True)
    pair = np.array([[[0, 0], [7, 0], [7, 2]]])
    out = turned(x, spec, pair)
    np.testing.assert_allclose(out[0, 1, 0, 4:], x[0, 1, 0, 4:], atol=1e-6)  # block position 0 turns nothing
    half = turned(x[..., :4], RopeSpec(), pair[..., 0])
    np.testing.assert_allclose(out[..., :4], half, atol=1e-6)


def test_dynamic_scaling_starts_behind_the_original_length():
    spec = RopeSpec(scaling=RopeScaling("dynamic", 2.0, original_length=16))
    np.testing.assert_array_equal(frequencies(spec, 8, 16), frequencies(RopeSpec(), 8))
    assert float(frequencies(spec, 8, 17)[-1]) < float(frequencies(RopeSpec(), 8)[-1])


def test_alibi_slopes_of_the_paper():
    np.testing.assert_allclose(distance_bias.alibi_slopes(8), [2.0 ** -(i + 1) for i in range(8)])
    twelve = distance_bias.alibi_slopes(12)
    np.testing.assert_allclose(twelve[:8], distance_bias.alibi_slopes(8))
    np.testing.assert_allclose(twelve[8:], distance_bias.alibi_slopes(16)[:8:2])


def test_buckets_of_the_docstring():
    spec = RelativeBiasSpec(buckets=8, max_distance=16)
    distances = np.array([1, 0, -1, -2, -3, -4, -9, -20])
    assert bucket_of(distances, spec).tolist() == [0, 0, 1, 2, 3, 4, 6, 7]


def test_bidirectional_buckets_mirror():
    spec = RelativeBiasSpec(buckets=8, max_distance=16, bidirectional=True)
    distances = np.arange(1, 40)
    behind, before = bucket_of(distances, spec), bucket_of(-distances, spec)
    np.testing.assert_array_equal(behind, np.asarray(before) + 4)
    assert int(before.max()) == 3


def test_sinusoids():
    values = np.asarray(jax.jit(sinusoidal, static_argnums=1)(np.array([[0, 1]]), 6))
    np.testing.assert_allclose(values[0, 0], [0, 0, 0, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(values[0, 1, 0], math.sin(1), rtol=1e-6)
    np.testing.assert_allclose(values[0, 1, 2], math.sin(1e-4), rtol=1e-4)


CROSSES = [(130, 130, True), pytest.param(130, 130, False, marks=pytest.mark.slow), (70, 150, False)]


@pytest.mark.parametrize(("queries", "keys", "causal"), CROSSES)
def test_bias_by_distance_equals_a_plain_matrix(queries, keys, causal):
    random = np.random.default_rng(1)
    q, k, v, bias, weights = (
        random.normal(size=shape).astype(np.float32)
        for shape in (
            (2, 2, 3, queries, 4),
            (2, 2, keys, 4),
            (2, 2, keys, 4),
            (2, 3, queries + keys - 1),
            (2, 2, 3, queries, 4),
        )
    )
    form = blockwise.Form(causal, None, None, jnp.dtype("float32"))
    columns = np.arange(keys)[None] - np.arange(queries)[:, None] + queries - 1

    def plain(q, k, v, bias):
        scores = jnp.einsum("BGRLK,BGSK->BGRLS", q, k) + bias[:, :, columns]
        if causal:
            scores = jnp.where(np.tril(np.ones((queries, keys), bool)), scores, -jnp.inf)
        return jnp.einsum("BGRLS,BGSK->BGRLK", jax.nn.softmax(scores, axis=-1), v)

    def ours(q, k, v, bias):
        return blockwise.attend(q, k, v, masks.Sight(jnp.arange(queries), jnp.arange(keys)), form, bias)

    def gradient(attend):
        return jax.value_and_grad(lambda *x: jnp.sum(weights * attend(*x)), (0, 1, 2, 3))

    found, expected = jax.jit(lambda *x: (gradient(ours)(*x), gradient(plain)(*x)))(q, k, v, bias)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    for one, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=1e-3)
