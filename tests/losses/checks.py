"""What the tests of losses share: tiny models drawn by NumPy, packed batches, sums and gradients in one program."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.losses.loss import Now
from t5x_style.models import specs as parts
from t5x_style.training.step import LossProgram, accumulate
from tests.models.execution_checks import drawn, layer, stack

VOCAB, LENGTH = 61, 12
# quick to compile, and small chunks of scores
EXECUTION = parts.Execution(scan=False, remat="none", attention="xla", loss_chunk=16)
NOW = Now(jnp.int32(0))


def decoder(width=16, multiple=16, block=None, **changes):
    """One layer over 61 ids; the table is padded."""
    group = parts.LayerGroup((block or layer(),), 1)
    settings = {"vocab_size": VOCAB, "embed_dim": width, "vocab_multiple": multiple}
    return stack(parts.DecoderConfig, group, **{**settings, **changes})


def encoder(tasks=(), **changes):
    """One layer that sees both ways, with a pooler."""
    group = parts.LayerGroup((layer(causal=False),), 1)
    settings = {"vocab_size": VOCAB, "vocab_multiple": 16, "pooler": True}
    return stack(parts.EncoderConfig, group, **{**settings, "tasks": tasks, **changes})


def encoder_decoder():
    """One layer each."""
    crossing = parts.LayerGroup((layer(cross=True),), 1)
    settings = {"vocab_size": VOCAB, "vocab_multiple": 16}
    return parts.EncoderDecoderConfig(encoder(pooler=False), stack(parts.TransformerConfig, crossing, **settings))


@functools.cache
def model(config, seed=0):
    """A model of normal numbers, shared by all who ask for it."""
    return drawn(config, seed, execution=EXECUTION)


def batch(side, segments, seed=0, weights=(0.0, 1.0, 0.5)):
    """Random tokens and targets over given segment ids [B, L], with uneven weights and none on padding."""
    random = np.random.default_rng(seed)
    segments = np.asarray(segments, np.int32)
    starts = np.concatenate([np.ones_like(segments[:, :1]), segments[:, 1:] != segments[:, :-1]], axis=1)
    index = np.broadcast_to(np.arange(segments.shape[1]), segments.shape)
    positions = index - np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    return {
        f"{side}_input_tokens": random.integers(0, VOCAB, segments.shape).astype(np.int32),
        f"{side}_target_tokens": random.integers(0, VOCAB, segments.shape).astype(np.int32),
        f"{side}_segment_ids": segments,
        f"{side}_positions": (positions * (segments > 0)).astype(np.int32),
        f"{side}_loss_weights": (random.choice(weights, segments.shape) * (segments > 0)).astype(np.float32),
    }


def split(models):
    """(graphs, states) of models by name."""
    pairs = {name: nnx.split(model) for name, model in models.items()}
    return {name: pair[0] for name, pair in pairs.items()}, {name: pair[1] for name, pair in pairs.items()}


def program(loss, models, naive=None):
    """batch -> (Sums, weights, gradient by model of what the step minimises); `naive`: a Sums function in its place.

    The step's division is done by hand: the sum over terms of losses / weights, 0 where the weight is 0.
    """
    graphs, states = split(models)

    def total(states, batch):
        merged = {name: nnx.merge(graphs[name], states[name]) for name in graphs}
        sums, weights = (naive or loss)(merged, batch, NOW), loss.weights(batch)
        return sum(value / jnp.maximum(weights[name], 1e-8) for name, value in sums.losses.items()), (sums, weights)

    compiled = jax.jit(jax.grad(total, has_aux=True))

    def run(batch, states=states):
        gradient, (sums, weights) = compiled(states, batch)
        return sums, weights, gradient

    def descend(batch, steps, rate):
        """Sums after some steps of signed gradients on the policy."""
        now = states
        for _ in range(steps):
            policy = jax.tree.map(lambda a, d: a - rate * jnp.sign(d), now["policy"], run(batch, now)[2]["policy"])
            now = {**now, "policy": policy}
        return run(batch, now)[0]

    run.lower, run.descend = lambda batch: compiled.lower(states, batch), descend
    return run


def losses_of(loss, models):
    """batch -> (losses, weights), compiled once a shape, without gradients."""
    graphs, states = split(models)

    @jax.jit
    def compiled(states, batch):
        merged = {name: nnx.merge(graphs[name], states[name]) for name in graphs}
        return loss(merged, batch, NOW), loss.weights(batch)

    return lambda batch: compiled(states, batch)


def assert_equal(found, expected, rtol=2e-5, atol=2e-6):
    """Two results of `program`: sums, weights, and gradients relative to the largest entry of each."""
    assert set(found[0].losses) == set(expected[0].losses)
    for name, value in expected[0].losses.items():
        np.testing.assert_allclose(found[0].losses[name], value, rtol=rtol, atol=atol, err_msg=name)
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(expected[2]))
    for (path, one), other in zip(jax.tree.leaves_with_path(found[2]), jax.tree.leaves(expected[2]), strict=True):
        np.testing.assert_allclose(
            one, other, atol=1e-5 * max(largest, 1), rtol=1e-4, err_msg=jax.tree_util.keystr(path)
        )


def assert_accumulates(loss, models, batch):
    """The training step's loss, gradients and metrics over microbatches of a row are those of the whole batch."""
    graphs, states = split(models)

    def sums(trainable, frozen, microbatch, now):
        held = {"policy": trainable, **frozen}
        return loss({name: nnx.merge(graphs[name], held[name]) for name in graphs}, microbatch, now)

    program = LossProgram(loss.weights, sums)
    step = jax.jit(lambda policy, frozen, batch: accumulate(program, policy, frozen, batch, NOW))
    frozen = {name: state for name, state in states.items() if name != "policy"}
    whole, single = (
        step(states["policy"], frozen, {name: np.expand_dims(array, axis) for name, array in batch.items()})
        for axis in (0, 1)
    )
    np.testing.assert_allclose(single[1], whole[1], rtol=1e-6)
    for one, other in zip(jax.tree.leaves(single[0]), jax.tree.leaves(whole[0]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 * max(float(np.abs(other).max()), 1))
    for name, pair in whole[3].items():
        np.testing.assert_allclose(single[3][name], pair, rtol=1e-5, atol=1e-5, err_msg=name)


def assert_nothing(loss, models, batch):
    """A batch without weight: every term of a model without experts, its weight and its gradient are 0, not NaN."""
    sums, weights, gradient = program(loss, models)(batch)
    for tree in (sums.losses, {name: weights[name] for name in sums.losses}, gradient):
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(tree))
    assert all(np.isfinite(value) for pair in sums.metrics.values() for value in pair)
