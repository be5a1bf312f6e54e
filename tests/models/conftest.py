"""Small configurations shared by the model tests."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.models import abstract
from t5x_style.models import specs as parts


def small_config(**changes):
    """A three-layer decoder of width 32 over 61 ids, with grouped queries and a padded vocabulary."""
    attention = parts.AttentionSpec(heads=4, kv_heads=2, head_dim=8)
    layer = parts.LayerSpec(attention, parts.MlpSpec(hidden=48))
    layer_changes = {name: changes.pop(name) for name in ("placement", "norm", "mlp") if name in changes}
    attention_changes = changes.pop("attention", {})
    layer = dataclasses.replace(layer, attention=dataclasses.replace(attention, **attention_changes), **layer_changes)
    settings = {"vocab_size": 61, "vocab_multiple": 16, "embed_dim": 32}
    settings["segments"] = (parts.LayerGroup((layer,), 3),)
    return parts.DecoderConfig(**{**settings, **changes})


def jitted(function):
    """`function(model, *arrays)` with NumPy results, compiled as one program a model and the arrays' shapes.

    Called outside jit, a model compiles one program a kernel and shape, some hundred in all.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def program(graphdef, state, *arrays, **named):
        return function(nnx.merge(graphdef, state), *arrays, **named)

    return lambda model, *arrays, **named: jax.tree.map(np.asarray, program(*nnx.split(model), *arrays, **named))


@functools.cache
def filled(config, seed=0, stddev=0.3, policy=parts.FLOAT32, execution=parts.DEFAULT_EXECUTION):
    """A model of normal numbers from NumPy, biases too, norms' scales about 1: nothing is compiled to make it.

    For tests that ask how a model computes and not how it begins; all who ask for it share it.
    """
    random = np.random.default_rng(seed)

    def numbers(path, leaf):
        middle = float("scale" in jax.tree_util.keystr(path))
        return jnp.asarray((middle + stddev * random.normal(size=leaf.shape)).astype(leaf.dtype))

    graphdef, state = nnx.split(abstract(config, policy, execution))
    return nnx.merge(graphdef, jax.tree_util.tree_map_with_path(numbers, state))


@pytest.fixture
def make_config():
    return small_config


@pytest.fixture(scope="module", autouse=True)
def _compile_quickly(quick_to_compile):
    """These tests compile many small models."""
