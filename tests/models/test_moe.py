"""Experts against a loop over tokens; capacity, padding, losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers import moe
from t5x_style.models.layers.linear import ExpertLinear
from t5x_style.models.specs import FLOAT32, DtypePolicy, MlpSpec, MoeSpec


def made(**changes):
    spec = MoeSpec(**{"experts": 4, "top_k": 2, "mlp": MlpSpec(6), **changes})
    with nnx.use_eager_sharding(False):
        layer = moe.Moe(spec, 5, policy=FLOAT32, rngs=nnx.Rngs(0), stddev=0.7, output_gain=1.0)
    return layer, jnp.asarray(np.random.default_rng(0).normal(size=(3, 7, 5)), jnp.float32)


def one_by_one(layer, x):
    """Every token through its experts, one at a time."""
    spec, out = layer.spec, np.zeros(x.shape, np.float32)
    for row in range(x.shape[0]):
        for place in range(x.shape[1]):
            token = np.asarray(x[row, place])
            scores = token @ np.asarray(layer.router.kernel[...])
            probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            best = np.argsort(-probabilities)[: spec.top_k]
            weights = probabilities[best] / (probabilities[best].sum() if spec.normalize else 1)
            for expert, weight in zip(best, weights, strict=True):
                up = token @ np.asarray(layer.up.kernel[...])[expert]
                gate = token @ np.asarray(layer.gate.kernel[...])[expert]
                hidden = gate / (1 + np.exp(-gate)) * up
                out[row, place] += weight * (hidden @ np.asarray(layer.down.kernel[...])[expert])
    return out


@pytest.mark.parametrize("mode", ["dropless", "capacity"])
@pytest.mark.parametrize(("top_k", "normalize"), [(1, False), (2, True), (4, True)])
def test_equals_a_loop_over_tokens(mode, top_k, normalize):
    layer, x = made(mode=mode, top_k=top_k, normalize=normalize, capacity_factor=8.0)
    out, losses = layer(x)
    np.testing.assert_allclose(out, one_by_one(layer, x), atol=1e-5)
    assert float(losses["moe_dropped"]) == 0


def test_both_modes_have_the_same_gradient():
    def gradient(mode):
        layer, x = made(mode=mode, capacity_factor=8.0)
        graphdef, state = nnx.split(layer)
        return jax.grad(lambda state: jnp.sum(jnp.sin(nnx.merge(graphdef, state)(x)[0])))(state)

    for one, other in zip(jax.tree.leaves(gradient("dropless")), jax.tree.leaves(gradient("capacity")), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_does_not_fit_is_dropped_and_counted():
    layer, x = made(mode="capacity", top_k=1, capacity_factor=1.0)
    layer.router.kernel.set_value(jnp.zeros((5, 4)).at[:, 0].set(100.0))
    x = jnp.abs(x)  # every token wants expert 0, which has room for 2 of 7
    out, losses = layer(x)
    assert float(losses["moe_dropped"]) == pytest.approx(5 / 7)
    assert float(jnp.abs(out[:, :2]).min(axis=-1).max()) > 0
    np.testing.assert_array_equal(out[:, 2:], 0)


def test_padding_takes_no_room():
    layer, x = made(mode="capacity", top_k=1, capacity_factor=1.0)
    layer.router.kernel.set_value(jnp.zeros((5, 4)).at[:, 0].set(100.0))
    x = jnp.abs(x)
    visible = jnp.array([[0, 0, 0, 0, 0, 1, 1]] * 3)
    out, losses = layer(x, visible)
    assert float(losses["moe_dropped"]) == 0
    assert float(jnp.abs(out[:, 5:]).sum()) > 0


def test_losses_of_the_papers():
    spec = MoeSpec(2, 1, MlpSpec(3))
    even = jnp.zeros((1, 4, 2))
    chosen = moe.choose(even.at[0, ::2, 1].set(1e-6), spec)
    counted = jnp.ones((1, 4))
    assert float(moe.balance_loss(chosen, counted)) == pytest.approx(1, abs=1e-5)
    one_sided = moe.choose(jnp.array([[[9.0, -9.0]] * 4]), spec)
    assert float(moe.balance_loss(one_sided, counted)) == pytest.approx(2, abs=1e-5)
    assert float(moe.z_loss(even, counted)) == pytest.approx(np.log(2) ** 2)
    assert float(moe.z_loss(even, jnp.zeros((1, 4)))) == 0


def test_worked_example():
    chosen = moe.choose(jnp.log(jnp.array([[[1.0, 3.0]]])), MoeSpec(2, 1, MlpSpec(3), normalize=False))
    assert chosen.experts.tolist() == [[[1]]]
    assert float(chosen.weights[0, 0, 0]) == pytest.approx(0.75)


def test_impossible_numbers():
    with pytest.raises(UserError, match="top_k is 5; give 1 to 4"):
        MoeSpec(4, 5, MlpSpec(3))
    with pytest.raises(UserError, match="need mode"):
        MoeSpec(4, 1, MlpSpec(3), capacity=3)
    with pytest.raises(UserError, match="capacity_factor"):
        MoeSpec(4, 1, MlpSpec(3), capacity_factor=0)


def test_documents_that_share_a_row_compete_for_room_unless_counted_apart():
    segments = jnp.array([[1] * 4 + [2] * 3] * 3)
    whole = {"mode": "capacity", "top_k": 1, "capacity": 2}
    for per_document in (False, True):
        layer, x = made(**whole, per_document=per_document)
        layer.router.kernel.set_value(jnp.zeros((5, 4)).at[:, 0].set(100.0))
        x = jnp.abs(x)  # every token wants expert 0
        out, losses = layer(x, segments)
        kept = np.any(np.asarray(out) != 0, axis=-1)
        assert kept.tolist() == [[True, True, False, False, *([per_document] * 2), False]] * 3
        assert float(losses["moe_dropped"]) == pytest.approx(3 / 7 if per_document else 5 / 7)
        if per_document:
            np.testing.assert_allclose(out[:, 4:], layer(x[:, 4:])[0], atol=1e-6)  # as alone


def test_counted_per_document_equals_counted_per_row_where_a_row_is_one():
    for top_k in (1, 2, 3):
        settings = {"mode": "capacity", "top_k": top_k, "capacity_factor": 0.8}
        (row, x), (document, _) = made(**settings), made(**settings, per_document=True)
        (one, losses), (other, others) = row(x), document(x)
        np.testing.assert_allclose(one, other, atol=1e-5)
        assert 0 < float(losses["moe_dropped"]) == pytest.approx(float(others["moe_dropped"]))


def test_worked_examples_of_room():
    wants = jnp.ones((1, 1, 3, 1))
    spec = MoeSpec(1, 1, MlpSpec(3), mode="capacity", capacity=1)
    assert moe.fitting_rows(wants, spec).reshape(-1).tolist() == [1, 0, 0]
    assert moe.fitting_documents(wants, jnp.array([[1, 1, 2]]), spec).reshape(-1).tolist() == [1, 0, 1]
    assert moe.row_room(MoeSpec(4, 2, MlpSpec(3), mode="capacity"), 8) == 5
    assert moe.row_room(MoeSpec(4, 2, MlpSpec(3), mode="capacity", capacity=64), 8) == 8


def test_matrices_are_linears_and_the_router_computes_in_float32():
    layer, x = made()
    assert {type(part) for part in (layer.up, layer.gate, layer.down)} == {ExpertLinear}
    assert layer.up.kernel.shape == (4, 5, 6)
    assert layer.up.kernel.get_metadata()["out_sharding"] == ("expert", "embed", "mlp")
    with nnx.use_eager_sharding(False):
        half = moe.Moe(
            layer.spec, 5, policy=DtypePolicy(compute="bfloat16"), rngs=nnx.Rngs(0), stddev=0.7, output_gain=1.0
        )
    assert half.router(x.astype(jnp.bfloat16)).dtype == jnp.float32
    assert half(x.astype(jnp.bfloat16))[0].dtype == jnp.bfloat16
