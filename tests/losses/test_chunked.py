"""Chunked losses equal the naive ones in value and gradient. A program and a reference are compiled once a case."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.losses.chunked import token_log_probs
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import DtypePolicy
from t5x_style.models.layers.embedding import Head
from t5x_style.models.specs import FLOAT32, HeadSpec

pytestmark = pytest.mark.usefixtures("quick_to_compile")
VOCAB, PADDED, WIDTH = 50, 64, 12
HEADS = {"plain": HeadSpec(), "biased": HeadSpec(bias=True), "scaled": HeadSpec(scale=0.3, softcap=2.0)}


@functools.cache
def make_head(name="plain", policy=FLOAT32):
    """A head's graphdef and its parameters as NumPy arrays."""
    rng = np.random.default_rng(1)
    table = nnx.Param(rng.normal(size=(PADDED, WIDTH)).astype(np.float32))
    bias = nnx.Param(rng.normal(size=PADDED).astype(np.float32)) if HEADS[name].bias else None
    return nnx.split(Head(HEADS[name], table=table, bias=bias, vocab_size=VOCAB, policy=policy))


def data(batch=3, length=7):
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(batch, length, WIDTH)).astype(np.float32)
    weights = rng.choice([0.0, 1.0, 0.25, -0.5], size=(batch, length)).astype(np.float32)
    return hidden, rng.integers(0, VOCAB, (batch, length)), weights


def naive(head, hidden, targets):
    log_p = jax.nn.log_softmax(head.logits(hidden), axis=-1)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    log_z = jax.nn.logsumexp(head.logits(hidden), axis=-1)
    return jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0], log_z, entropy


def cases(fast, *values):
    """Every combination; those not in `fast` are slow."""
    for case in itertools.product(*values):
        yield pytest.param(*case, id="-".join(map(str, case)), marks=() if case in fast else pytest.mark.slow)


# All chunks full, the last one padded, one chunk; each head.
TOKEN_CASES = cases({("scaled", 1), ("plain", 4), ("biased", 1000)}, HEADS, [1, 4, 21, 1000])


@functools.cache
def expected_log_probs(name):
    graphdef, state = make_head(name)
    hidden, targets, _ = data()
    return jax.jit(value_and_gradient(naive, graphdef))(state, hidden, targets)


def value_and_gradient(function, graphdef):
    """(state, hidden, targets) -> gradients of a random mixture of what `function` returns, and that itself."""
    cotangents = np.random.default_rng(4).normal(size=(3, 3, 7)).astype(np.float32)

    def total(state, hidden, targets):
        parts = function(nnx.merge(graphdef, state), hidden, targets)
        return sum(jnp.sum(c * p) for c, p in zip(cotangents, parts)), parts

    return jax.grad(total, (0, 1), has_aux=True)


@pytest.mark.parametrize(("name", "chunk_size"), TOKEN_CASES)
def test_token_log_probs(name, chunk_size):
    graphdef, state = make_head(name)
    hidden, targets, _ = data()
    with_entropy = value_and_gradient(functools.partial(token_log_probs, chunk_size=chunk_size, entropy=True), graphdef)

    @jax.jit
    def program(state, hidden, targets):
        without = token_log_probs(nnx.merge(graphdef, state), hidden, targets, chunk_size=chunk_size)
        assert without.entropy is None
        return with_entropy(state, hidden, targets), without.log_probs

    (got, parts), without = program(state, hidden, targets)
    wanted, expected = expected_log_probs(name)
    for a, b in zip(parts, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-5)
    np.testing.assert_array_equal(without, parts.log_probs)


# Every head, every coefficient, every kind of chunks.
CROSS_ENTROPY_CASES = cases(
    {("plain", 0.1, 0.0, 4), ("biased", 0.0, 0.0, 1000), ("scaled", 0.1, 0.03, 1)},
    HEADS,
    [0.0, 0.1],
    [0.0, 0.03],
    [1, 4, 1000],
)
CROSS_ENTROPY_CASES = [case for case in CROSS_ENTROPY_CASES if case.values[1] or not case.values[2]]


@functools.cache
def program(name, z_loss=0.1, max_z_loss=0.0, chunk_size=4):
    """(state, hidden, targets, weights) -> (loss, gradients), and what cross_entropy returns without a gradient."""
    graphdef, _ = make_head(name)

    def ours(state, hidden, targets, weights):
        return cross_entropy(
            nnx.merge(graphdef, state),
            hidden,
            targets,
            weights,
            z_loss=z_loss,
            max_z_loss=max_z_loss,
            chunk_size=chunk_size,
        )

    def run(*arrays):
        return jax.value_and_grad(lambda *a: 3 * ours(*a)[0], (0, 1, 3))(*arrays), ours(*arrays)

    return jax.jit(run)


@functools.cache
def reference(name):
    """The same of the naive loss, for all coefficients."""
    graphdef, _ = make_head(name)

    def expected(state, hidden, targets, weights, z_loss, max_z_loss):
        head = nnx.merge(graphdef, state)
        log_p, log_z, _ = naive(head, hidden, targets)
        best = jnp.max(head.logits(hidden), axis=-1)
        return 3 * jnp.sum(weights * (-log_p + z_loss * log_z**2 + max_z_loss * best**2))

    return jax.jit(jax.value_and_grad(expected, (0, 1, 3)))


@pytest.mark.parametrize(("name", "z_loss", "max_z_loss", "chunk_size"), CROSS_ENTROPY_CASES)
def test_cross_entropy(name, z_loss, max_z_loss, chunk_size):
    arrays = make_head(name)[1], *data()
    wanted, wanted_gradient = reference(name)(*arrays, np.float32(z_loss), np.float32(max_z_loss))
    (value, gradient), plain = program(name, z_loss, max_z_loss, chunk_size)(*arrays)
    assert float(value) == pytest.approx(float(wanted), abs=1e-4)
    assert 3 * float(plain[0]) == pytest.approx(float(wanted), abs=1e-4)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted_gradient), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-5)


def test_metrics_are_sums():
    graphdef, state = make_head()
    hidden, targets, weights = data()

    @jax.jit
    def scores_and_parts(state, targets):
        head = nnx.merge(graphdef, state)
        return head.logits(hidden), naive(head, hidden, targets)

    best = np.argmax(scores_and_parts(state, targets)[0], axis=-1)
    targets[0] = best[0]  # one row all right
    log_p, log_z, _ = map(np.asarray, scores_and_parts(state, targets)[1])
    loss, count, metrics = program("plain", z_loss=0.1)(state, hidden, targets, weights)[1]
    assert float(count) == pytest.approx(float(weights.sum()))
    assert float(metrics["nll"]) == pytest.approx(float(-(weights * log_p).sum()), rel=1e-5)
    assert float(metrics["z_loss"]) == pytest.approx(float(0.1 * (weights * log_z**2).sum()), rel=1e-5)
    assert float(metrics["correct"]) == pytest.approx(float((weights * (best == targets)).sum()))
    assert float(loss) == pytest.approx(float(metrics["nll"] + metrics["z_loss"]), rel=1e-5)


def test_accumulated_microbatches_equal_the_whole_batch():
    graphdef, state = make_head()

    @jax.jit
    def sums(state, hidden, targets, weights):
        head = nnx.merge(graphdef, state)
        rows = slice(4), slice(1), slice(1, 4)
        return [cross_entropy(head, hidden[some], targets[some], weights[some])[:2] for some in rows]

    whole, *parts = sums(state, *data(batch=4))
    assert float(sum(p[0] for p in parts)) == pytest.approx(float(whole[0]), abs=1e-4)
    assert float(sum(p[1] for p in parts)) == pytest.approx(float(whole[1]))


def test_all_weights_zero_gives_zero_loss_and_gradient():
    hidden, targets, weights = data()
    (value, (of_state, of_hidden, _)), _ = program("plain")(make_head()[1], hidden, targets, 0 * weights)
    assert float(value) == 0
    assert not np.any(jax.tree.leaves(of_state)[0])
    assert not np.any(of_hidden)


def test_huge_scores_stay_finite():
    hidden, targets, weights = data()
    (value, (_, gradient, _)), _ = program("plain")(make_head()[1], 1e4 * hidden, targets, weights)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_bfloat16_hidden_gets_bfloat16_gradient_and_float32_parameters_their_own():
    graphdef, state = make_head(policy=DtypePolicy(compute="bfloat16"))
    hidden, targets, weights = data()
    loss = lambda s, h: cross_entropy(nnx.merge(graphdef, s), h, targets, weights)[0]  # noqa: E731
    of_state, of_hidden = jax.eval_shape(jax.grad(loss, (0, 1)), state, jnp.asarray(hidden, jnp.bfloat16))
    assert of_hidden.dtype == jnp.bfloat16
    assert jax.tree.leaves(of_state)[0].dtype == jnp.float32
