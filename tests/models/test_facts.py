"""What all layers of a forward pass share is a pytree that can be cut by rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.models.layers.attention import AttentionFacts, rotations
from t5x_style.models.layers.masks import Sight
from t5x_style.models.presets import gemma, llama, t5
from tests import built

pytestmark = pytest.mark.usefixtures("quick_to_compile")


def facts(config, rows=4, length=6, shared_positions=False):
    steps = jnp.arange(length, dtype=jnp.int32)
    segments = jnp.asarray(np.random.default_rng(0).integers(1, 3, (rows, length)))
    places = steps[None] if shared_positions else jnp.tile(steps, (rows, 1)) + jnp.arange(rows)[:, None]
    return AttentionFacts(Sight(steps, steps, segments, segments), rotations(places, config.layers))


@pytest.mark.parametrize("shared_positions", [False, True])
def test_rows_are_cut_where_there_are_rows(shared_positions):
    config = gemma.gemma3("tiny")  # two kinds of rotations
    whole = facts(config, shared_positions=shared_positions)
    part = whole.of_rows(slice(1, 3))
    assert len(whole.rotations.keys) == 2
    np.testing.assert_array_equal(part.sight.query_segments, whole.sight.query_segments[1:3])
    np.testing.assert_array_equal(part.sight.query_index, whole.sight.query_index)
    for ours, theirs in zip(jax.tree.leaves(part.rotations), jax.tree.leaves(whole.rotations), strict=True):
        np.testing.assert_array_equal(ours, theirs if shared_positions else theirs[1:3])


def test_they_pass_through_jit_as_an_argument_and_a_trunk_runs_on_a_part():
    config = llama.llama(50, 16, 2, 2, 1)
    model, whole = built.shared(config), facts(config)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6, 16)), jnp.float32)
    run = jax.jit(lambda x, facts: model.trunk(x, facts)[0])
    parts = [run(x[rows], whole.of_rows(rows)) for rows in (slice(0, 2), slice(2, 4))]
    np.testing.assert_allclose(jnp.concatenate(parts), run(x, whole), rtol=1e-5, atol=1e-6)


def test_the_table_of_a_relative_bias_is_an_array_of_the_tree():
    trunk = built.shared(t5.t5("tiny", 64)).trunk
    bias = trunk.relative_bias.bias()
    (leaf,) = jax.tree.leaves(bias)
    assert leaf.shape == trunk.relative_bias.table[...].shape
