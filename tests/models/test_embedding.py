"""The look-up of token rows: narrow before rows are gathered, gradients added up in the parameters' format."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.models.layers.embedding import Embedding
from t5x_style.models.specs import DtypePolicy


def made(compute):
    """graph and state of a table [50, 8]."""
    with nnx.use_eager_sharding(False):
        return nnx.split(Embedding(50, 8, policy=DtypePolicy(compute=compute), rngs=nnx.Rngs(0), stddev=1.0))


def result(compute, rows):
    """Rows and the table's gradient, by `rows(embedding, tokens)`; half of the tokens are the same one."""
    (graphdef, state), random = made(compute), np.random.default_rng(0)
    tokens = np.where(random.random((4, 600)) < 0.5, 7, random.integers(0, 50, (4, 600)))
    weights = random.normal(size=(4, 600, 8)).astype(np.float32)

    def loss(state):
        found = rows(nnx.merge(graphdef, state), tokens)
        return jnp.sum(found.astype(jnp.float32) * weights), found.astype(jnp.float32)

    gradient, found = jax.jit(jax.grad(loss, has_aux=True))(state)
    return np.asarray(found), np.asarray(gradient["table"][...])


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_rows_and_gradients_are_those_of_a_look_up_in_the_parameters_to_the_bit(compute):
    ours = result(compute, lambda embedding, tokens: embedding(tokens))
    plain = result(compute, lambda embedding, tokens: jnp.take(embedding.table[...], tokens, axis=0).astype(compute))
    np.testing.assert_array_equal(ours[0], plain[0])
    np.testing.assert_array_equal(ours[1], plain[1])


def test_the_table_is_narrow_before_rows_are_taken():
    graphdef, state = made("bfloat16")
    program = jax.jit(lambda state, tokens: nnx.merge(graphdef, state)(tokens)).lower(state, np.zeros((2, 3), int))
    gathers = [line for line in program.as_text().splitlines() if "stablehlo.gather" in line]
    assert len(gathers) == 1
    assert "tensor<50x8xbf16>" in gathers[0]
