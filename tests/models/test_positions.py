"""Position encodings: rotary kinds, ALiBi, T5's buckets, sinusoids; biases by distance equal plain matrices."""

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


def table_of(blocks):
    spec = EmbeddingSpec(positions=PositionSpec("learned", 9, blocks=blocks))
    with nnx.use_eager_sharding(False):
        return InputEmbedding(16, 8, spec, policy=FLOAT32, rngs=nnx.Rngs(0), stddev=0.5)


def test_block_positions_have_a_table_of_their_own():
    embedding, tokens = table_of(True), jnp.array([[3, 4, 5]])
    pair = jnp.array([[[0, 0], [2, 1], [2, 8]]])
    found = embedding.embed(tokens, pair)
    first, second = embedding.positions.table[...], embedding.block_positions.table[...]
    expected = embedding.table[...][tokens] + first[pair[..., 0]] + second[pair[..., 1]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = embedding.embed(tokens, pair[..., 0])  # positions alone: in no block, which is row 0
    np.testing.assert_allclose(alone, embedding.table[...][tokens] + first[pair[..., 0]] + second[0], atol=1e-6)
    assert np.isnan(embedding.embed(tokens, pair.at[0, 2, 1].set(9))[0, 2]).all()  # a table has an end
    plain = table_of(False)
    assert plain.block_positions is None
    np.testing.assert_array_equal(plain.embed(tokens, pair), plain.embed(tokens, pair[..., 0]))


def test_only_learned_positions_have_blocks():
    with pytest.raises(UserError, match="blocks needs kind"):
        PositionSpec("sinusoidal", blocks=True)


def turned(x, spec, positions):
    return rope.apply(x, rope.tables(positions, spec, x.shape[-1]), spec)


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


@pytest.mark.parametrize("spec", STEADY)
def test_scores_depend_on_distance_only(spec):
    random = np.random.default_rng(0)
    q, k = (jnp.asarray(random.normal(size=(1, 5, 2, 8)), jnp.float32) for _ in range(2))
    steps = jnp.arange(5)[None]
    first = jnp.einsum("BLHK,BSHK->BHLS", turned(q, spec, steps), turned(k, spec, steps))
    later = jnp.einsum("BLHK,BSHK->BHLS", turned(q, spec, steps + 11), turned(k, spec, steps + 11))
    np.testing.assert_allclose(first, later, atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(turned(q, spec, steps), axis=-1), jnp.linalg.norm(q, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("spec", STEADY)
def test_turns_add_up_and_can_be_undone(spec):
    random = np.random.default_rng(2)
    shape = (2, 6, 2) if spec.two_dimensional else (2, 6)
    first, second = (jnp.asarray(random.integers(-40, 40, shape)) for _ in range(2))
    x = jnp.asarray(random.normal(size=(2, 6, 3, 8)), jnp.float32)
    np.testing.assert_allclose(turned(turned(x, spec, first), spec, second), turned(x, spec, first + second), atol=2e-5)
    np.testing.assert_allclose(turned(turned(x, spec, first), spec, -first), x, atol=2e-5)
    assert float(jnp.abs(turned(x, spec, first) - x).max()) > 0.5


@pytest.mark.parametrize("interleaved", [False, True])
def test_two_dimensional_scores_depend_on_both_distances(interleaved):
    random, spec = np.random.default_rng(3), RopeSpec(two_dimensional=True, interleaved=interleaved)
    q, k = (jnp.asarray(random.normal(size=(1, 1, 1, 16)), jnp.float32) for _ in range(2))

    def score(query, key):
        pair = [turned(x, spec, jnp.asarray([[place]])) for x, place in ((q, query), (k, key))]
        return float(jnp.sum(pair[0] * pair[1]))

    near = score((5, 3), (2, 1))
    np.testing.assert_allclose(score((15, 23), (12, 21)), near, rtol=1e-4)  # each dimension moved by its own amount
    assert abs(score((6, 3), (2, 1)) - near) > 1e-2
    assert abs(score((5, 4), (2, 1)) - near) > 1e-2


def test_yarn_and_dynamic_stretch_but_keep_their_laws():
    x = jnp.asarray(np.random.default_rng(4).normal(size=(1, 20, 2, 8)), jnp.float32)
    steps = jnp.arange(20)[None]
    yarn = RopeSpec(scaling=RopeScaling("yarn", 4.0, original_length=8))
    amplitude = 0.1 * math.log(4.0) + 1.0
    np.testing.assert_allclose(
        jnp.linalg.norm(turned(x, yarn, steps), axis=-1), amplitude * jnp.linalg.norm(x, axis=-1), rtol=1e-5
    )
    dynamic = RopeSpec(scaling=RopeScaling("dynamic", 4.0, original_length=8))
    out = turned(x, dynamic, steps)
    np.testing.assert_allclose(jnp.linalg.norm(out, axis=-1), jnp.linalg.norm(x, axis=-1), rtol=1e-5)
    # the longest position decides the frequencies of all: a shorter row of the same tokens turns otherwise
    assert float(jnp.abs(out[:, :9] - turned(x[:, :9], dynamic, steps[:, :9])).max()) > 1e-3


@pytest.mark.parametrize("spec", STEADY)
def test_every_position_of_a_long_row_turns_by_its_own_angle(spec):
    """Against complex numbers in float64, pair by pair: which dimensions turn together, by which position, how fast."""
    places = np.array([0, 1, 17, 1000])
    pair = np.stack([places, places[::-1]], axis=-1)
    x = np.random.default_rng(5).normal(size=(4, 8))
    found = turned(
        jnp.asarray(x[None, :, None], jnp.float32), spec, jnp.asarray(pair if spec.two_dimensional else places)[None]
    )
    expected, dim = x.copy(), spec.dim or 8
    parts = [(slice(0, dim), places)]
    if spec.two_dimensional:
        parts = [(slice(0, dim // 2), pair[:, 0]), (slice(dim // 2, dim), pair[:, 1])]
    for where, own in parts:
        size = where.stop - where.start
        rates = np.asarray(rope.frequencies(spec, size), np.float64)
        evens = slice(where.start, where.stop, 2) if spec.interleaved else slice(where.start, where.start + size // 2)
        odds = slice(where.start + 1, where.stop, 2) if spec.interleaved else slice(evens.stop, where.stop)
        numbers = (x[:, evens] + 1j * x[:, odds]) * np.exp(1j * own[:, None] * rates)
        expected[:, evens], expected[:, odds] = numbers.real, numbers.imag
    np.testing.assert_allclose(found[0, :, 0], expected, atol=2e-4)


def test_frequencies_of_the_papers():
    np.testing.assert_allclose(rope.frequencies(RopeSpec(), 8), [1.0, 1e-1, 1e-2, 1e-3], rtol=1e-5)
    halved = rope.frequencies(RopeSpec(scaling=RopeScaling("linear", 2.0)), 8)
    np.testing.assert_allclose(halved, [0.5, 0.05, 0.005, 0.0005], rtol=1e-5)
    scaling = RopeScaling("llama3", 8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_length=100)
    kept = rope.frequencies(RopeSpec(scaling=scaling), 8)
    turns = 100 / (2 * math.pi) * np.array([1.0, 1e-1, 1e-2, 1e-3])  # 15.9, 1.59, 0.159, 0.0159
    share = np.clip((turns - 1) / 3, 0, 1)
    np.testing.assert_allclose(kept, np.array([1.0, 1e-1, 1e-2, 1e-3]) * (share + (1 - share) / 8), rtol=1e-5)


def test_alibi_is_linear_in_the_distance():
    bias = distance_bias.alibi(5, jnp.arange(-6, 1))
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
