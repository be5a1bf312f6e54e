"""Chunked losses equal the naive ones in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.losses.chunked import summed_cross_entropy, token_log_probs
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import DtypePolicy
from t5x_style.models.layers.embedding import Head
from t5x_style.models.specs import FLOAT32, HeadSpec

VOCAB, PADDED, WIDTH = 50, 64, 12
HEADS = {"plain": HeadSpec(), "biased": HeadSpec(bias=True), "scaled": HeadSpec(scale=0.3, softcap=2.0)}


def make_head(spec=HEADS["plain"], seed=0, policy=FLOAT32):
    keys = jax.random.split(jax.random.key(seed), 2)
    table = nnx.Param(jax.random.normal(keys[0], (PADDED, WIDTH)))
    bias = nnx.Param(jax.random.normal(keys[1], (PADDED,))) if spec.bias else None
    return Head(spec, table=table, bias=bias, vocab_size=VOCAB, policy=policy)


def data(batch=3, length=7):
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(batch, length, WIDTH)), jnp.float32)
    weights = rng.choice([0.0, 1.0, 0.25, -0.5], size=(batch, length))
    return hidden, jnp.asarray(rng.integers(0, VOCAB, (batch, length))), jnp.asarray(weights, jnp.float32)


def naive(head, hidden, targets):
    log_p = jax.nn.log_softmax(head.logits(hidden), axis=-1)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
    log_z = jax.nn.logsumexp(head.logits(hidden), axis=-1)
    return jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0], log_z, entropy


@pytest.mark.parametrize("chunk_size", [1, 4, 21, 1000])
@pytest.mark.parametrize("spec", HEADS.values(), ids=HEADS)
def test_token_log_probs(spec, chunk_size):
    graphdef, state = nnx.split(make_head(spec))
    hidden, targets, _ = data()
    cotangents = jax.random.normal(jax.random.key(4), (3, *targets.shape))

    def total(function, state, hidden):
        parts = function(nnx.merge(graphdef, state), hidden, targets)
        return sum(jnp.sum(c * p) for c, p in zip(cotangents, parts)), parts

    ours = lambda *a: token_log_probs(*a, chunk_size=chunk_size, entropy=True)  # noqa: E731
    (_, expected), wanted = jax.value_and_grad(lambda s, h: total(naive, s, h), (0, 1), has_aux=True)(state, hidden)
    (_, parts), got = jax.value_and_grad(lambda s, h: total(ours, s, h), (0, 1), has_aux=True)(state, hidden)
    for a, b in zip(parts, expected):
        np.testing.assert_allclose(a, b, atol=5e-6)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted)):
        np.testing.assert_allclose(a, b, atol=3e-5)
    without = token_log_probs(make_head(spec), hidden, targets, chunk_size=chunk_size)
    assert without.entropy is None
    np.testing.assert_array_equal(without.log_probs, parts.log_probs)


@pytest.mark.parametrize("chunk_size", [1, 4, 1000])
@pytest.mark.parametrize(("z_loss", "max_z_loss"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.03)])
@pytest.mark.parametrize("spec", HEADS.values(), ids=HEADS)
def test_cross_entropy(spec, z_loss, max_z_loss, chunk_size):
    graphdef, state = nnx.split(make_head(spec))
    hidden, targets, weights = data()

    def expected(state, hidden, weights):
        head = nnx.merge(graphdef, state)
        log_p, log_z, _ = naive(head, hidden, targets)
        best = jnp.max(head.logits(hidden), axis=-1)
        return 3 * jnp.sum(weights * (-log_p + z_loss * log_z**2 + max_z_loss * best**2))

    def ours(state, hidden, weights):
        head = nnx.merge(graphdef, state)
        coefficients = {"z_loss": z_loss, "max_z_loss": max_z_loss}
        return 3 * cross_entropy(head, hidden, targets, weights, **coefficients, chunk_size=chunk_size)[0]

    wanted, wanted_gradient = jax.value_and_grad(expected, (0, 1, 2))(state, hidden, weights)
    value, gradient = jax.value_and_grad(ours, (0, 1, 2))(state, hidden, weights)
    assert float(value) == pytest.approx(float(wanted), abs=1e-4)
    assert float(ours(state, hidden, weights)) == pytest.approx(float(wanted), abs=1e-4)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted_gradient)):
        np.testing.assert_allclose(a, b, atol=5e-5)


def test_metrics_are_sums():
    head = make_head()
    hidden, targets, weights = data()
    best = jnp.argmax(head.logits(hidden), axis=-1)
    targets = targets.at[0].set(best[0])  # one row all right
    loss, count, metrics = cross_entropy(head, hidden, targets, weights, z_loss=0.1)
    log_p, log_z, _ = naive(head, hidden, targets)
    assert float(count) == pytest.approx(float(weights.sum()))
    assert float(metrics["nll"]) == pytest.approx(float(-(weights * log_p).sum()), rel=1e-5)
    assert float(metrics["z_loss"]) == pytest.approx(float(0.1 * (weights * log_z**2).sum()), rel=1e-5)
    assert float(metrics["correct"]) == pytest.approx(float((weights * (best == targets)).sum()))
    assert float(loss) == pytest.approx(float(metrics["nll"] + metrics["z_loss"]), rel=1e-5)


def test_accumulated_microbatches_equal_the_whole_batch():
    head = make_head()
    hidden, targets, weights = data(batch=4)
    whole = cross_entropy(head, hidden, targets, weights)
    parts = [cross_entropy(head, hidden[rows], targets[rows], weights[rows]) for rows in (slice(1), slice(1, 4))]
    assert float(sum(p[0] for p in parts)) == pytest.approx(float(whole[0]), abs=1e-4)
    assert float(sum(p[1] for p in parts)) == pytest.approx(float(whole[1]))


def test_all_weights_zero_gives_zero_loss_and_gradient():
    graphdef, state = nnx.split(make_head())
    hidden, targets, weights = data()
    loss = lambda s: cross_entropy(nnx.merge(graphdef, s), hidden, targets, 0 * weights)[0]  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(state)
    assert float(value) == 0
    assert not np.any(jax.tree.leaves(gradient)[0])


def test_huge_scores_stay_finite():
    graphdef, state = nnx.split(make_head())
    hidden, targets, weights = data()
    loss = lambda h: summed_cross_entropy(nnx.merge(graphdef, state), h, targets, weights).loss  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(1e4 * hidden)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


def test_bfloat16_hidden_gets_bfloat16_gradient_and_float32_parameters_their_own():
    graphdef, state = nnx.split(make_head(policy=DtypePolicy(compute="bfloat16")))
    hidden, targets, weights = data()
    loss = lambda s, h: cross_entropy(nnx.merge(graphdef, s), h, targets, weights)[0]  # noqa: E731
    of_state, of_hidden = jax.grad(loss, (0, 1))(state, hidden.astype(jnp.bfloat16))
    assert of_hidden.dtype == jnp.bfloat16
    assert jax.tree.leaves(of_state)[0].dtype == jnp.float32
