"""Small models for tests, each built by one compiled program instead of one a kernel."""

import functools

import jax
from flax import nnx

from t5x_style import models
from t5x_style.models.specs import FLOAT32


@functools.lru_cache(maxsize=128)
def _program(config, policy):
    return nnx.jit(lambda seed: models.build(config, nnx.Rngs(jax.random.key(seed)), policy))


def build(config, seed=0, policy=FLOAT32):
    """`models.build` under jit: a new module, one compilation a configuration whatever the seed."""
    return _program(config, policy)(seed)


@functools.lru_cache(maxsize=128)
def shared(config, seed=0, policy=FLOAT32):
    """The same module for all who ask for it in this process: for tests that change nothing in it."""
    return build(config, seed, policy)
