"""Which arrays of a head are cast before they are gathered."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.losses.chunked import summed_cross_entropy
from t5x_style.losses.head_arrays import narrow
from t5x_style.models.specs import DtypePolicy, HeadSpec, NormSpec
from tests.losses import checks
from tests.models.execution_checks import drawn


def dtypes(head):
    """Path -> dtype of a head's arrays as they are gathered."""
    leaves = nnx.to_flat_state(narrow(head, nnx.split(head)[1]))
    return {"/".join(map(str, path)): str(leaf.dtype) for path, leaf in leaves}


def masked(policy):
    spec = HeadSpec(bias=True, transform="gelu", transform_norm=NormSpec("layernorm"))
    return drawn(checks.decoder(head=spec), policy=policy).head


def test_matrices_are_cast_and_vectors_are_not():
    found = dtypes(masked(DtypePolicy(compute="bfloat16")))
    cast = {"table", "transform/dense/kernel"}
    kept = {"bias", "transform/dense/bias", "transform/norm/scale", "transform/norm/bias"}
    assert found == dict.fromkeys(cast, "bfloat16") | dict.fromkeys(kept, "float32")


def test_nothing_is_widened():
    assert set(dtypes(masked(DtypePolicy())).values()) == {"float32"}
    assert set(dtypes(masked(DtypePolicy(params="bfloat16"))).values()) == {"bfloat16"}


class Quantised(nnx.Module):
    """A whole-number table with a scale a block of columns."""

    def __init__(self):
        self.whole = nnx.Param(jnp.ones((6, 4), jnp.int8))
        self.scale = nnx.Param(jnp.full((6, 2), 1 / 3, jnp.float32))


class QuantisedHead(nnx.Module):
    """Its table is quantised, the matrix before it is not."""

    def __init__(self):
        self.policy = DtypePolicy(compute="bfloat16")
        self.table = Quantised()
        self.transform = nnx.Param(jnp.ones((4, 4)))


def test_whole_numbers_and_their_scales_keep_their_formats():
    assert dtypes(QuantisedHead()) == {"table/whole": "int8", "table/scale": "float32", "transform": "bfloat16"}


class Plain(nnx.Module):
    """A user's head: no policy, a matrix in float32 that `logits` applies so."""

    def __init__(self):
        self.kernel = nnx.Param(jnp.full((4, 6), 1 / 3))

    def logits(self, hidden):
        return hidden.astype(jnp.float32) @ self.kernel[...]


def test_a_head_without_a_policy_is_left_alone():
    head = Plain()
    assert dtypes(head) == {"kernel": "float32"}
    ones = jnp.ones((2, 3), jnp.float32)
    loss = summed_cross_entropy(head, jnp.ones((2, 3, 4), jnp.bfloat16), ones.astype(jnp.int32), ones).loss
    np.testing.assert_allclose(loss, 6 * np.log(6), rtol=1e-6)
