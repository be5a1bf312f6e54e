"""Experts against a loop over tokens; capacity, padding, losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers import moe
from t5x_style.models.layers.linear import ExpertLinear
from t5x_style.models.specs import FLOAT32, DtypePolicy, MlpSpec, MoeSpec


def spec_of(**changes):
    return MoeSpec(**{"experts": 4, "top_k": 2, "mlp": MlpSpec(6), **changes})


def made(spec, policy=FLOAT32):
    with nnx.use_eager_sharding(False):
        return moe.Moe(spec, 5, policy=policy, rngs=nnx.Rngs(0), stddev=0.7, output_gain=1.0)


def drawn():
    return np.random.default_rng(0).normal(size=(3, 7, 5)).astype(np.float32)


def filled(spec):
    """(structure, weights of NumPy) of a layer, the same weights in every mode."""
    random = np.random.default_rng(1)
    graphdef, state = nnx.split(nnx.eval_shape(lambda: made(spec)))
    return graphdef, jax.tree.map(lambda leaf: (0.7 * random.normal(size=leaf.shape)).astype(np.float32), state)


@functools.partial(jax.jit, static_argnums=0)
def _run(graphdef, state, x, segments):
    return nnx.merge(graphdef, state)(x, segments)


def run(x, segments=None, crowded=False, **changes):
    """(output, losses, kernels) of one layer; crowded: every token of positive numbers wants expert 0."""
    graphdef, state = filled(spec_of(**changes))
    if crowded:
        state["router"]["kernel"][...][:] = [100.0, 0, 0, 0]
    kernels = {name: state[name]["kernel"][...] for name in ("router", "up", "gate", "down")}
    return *jax.tree.map(np.asarray, _run(graphdef, state, x, segments)), kernels


def one_by_one(spec, kernels, x):
    """Every token through its experts, one at a time."""
    out = np.zeros(x.shape, np.float32)
    for row in range(x.shape[0]):
        for place in range(x.shape[1]):
            token = x[row, place]
            scores = token @ kernels["router"]
            probabilities = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
            best = np.argsort(-probabilities)[: spec.top_k]
            weights = probabilities[best] / (probabilities[best].sum() if spec.normalize else 1)
            for expert, weight in zip(best, weights, strict=True):
                up, gate = token @ kernels["up"][expert], token @ kernels["gate"][expert]
                hidden = gate / (1 + np.exp(-gate)) * up
                out[row, place] += weight * (hidden @ kernels["down"][expert])
    return out


CHOICES = [(1, False), (2, True), pytest.param(4, True, marks=pytest.mark.slow)]


@pytest.mark.parametrize("mode", ["dropless", "capacity"])
@pytest.mark.parametrize(("top_k", "normalize"), CHOICES)
def test_equals_a_loop_over_tokens(mode, top_k, normalize):
    x, settings = drawn(), {"mode": mode, "top_k": top_k, "normalize": normalize, "capacity_factor": 8.0}
    out, losses, kernels = run(x, **settings)
    np.testing.assert_allclose(out, one_by_one(spec_of(**settings), kernels, x), atol=1e-5)
    np.testing.assert_array_equal(losses["moe_dropped"], np.zeros(3))


def test_both_modes_have_the_same_gradient():
    (one, state), (other, _) = (filled(spec_of(mode=mode, capacity_factor=8.0)) for mode in ("dropless", "capacity"))

    @jax.jit
    def gradients(state, x):
        def gradient(graphdef):
            return jax.grad(lambda state: jnp.sum(jnp.sin(nnx.merge(graphdef, state)(x)[0])))(state)

        return gradient(one), gradient(other)

    for one, other in zip(*map(jax.tree.leaves, gradients(state, drawn())), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


CROWDED = {"mode": "capacity", "top_k": 1, "capacity_factor": 1.0, "crowded": True}


def test_what_does_not_fit_is_dropped_and_counted():
    out, losses, _ = run(np.abs(drawn()), **CROWDED)  # expert 0 has room for 2 of 7
    np.testing.assert_allclose(losses["moe_dropped"], 3 * [5 / 7], rtol=1e-6)
    assert float(np.abs(out[:, :2]).min(axis=-1).max()) > 0
    np.testing.assert_array_equal(out[:, 2:], 0)


def test_padding_takes_no_room():
    visible = np.array([[0, 0, 0, 0, 0, 1, 1]] * 3)
    out, losses, _ = run(np.abs(drawn()), visible, **CROWDED)
    np.testing.assert_array_equal(losses["moe_dropped"], np.zeros(3))
    assert float(np.abs(out[:, 5:]).sum()) > 0


def test_losses_of_the_papers():
    @jax.jit
    def found(even, one_sided):
        spec, counted = MoeSpec(2, 1, MlpSpec(3)), jnp.ones((1, 4))
        balances = [moe.balance_loss(moe.choose(logits, spec), counted)[0] for logits in (even, one_sided)]
        zeros = jnp.zeros((1, 4, 2))
        return *balances, moe.z_loss(zeros, counted)[0], moe.z_loss(zeros, 0 * counted)[0]

    logits = np.array([[[0, 1e-6], [0, 0]] * 2]), np.array([[[9.0, -9.0]] * 4])
    balance, one_sided, z, nothing = map(float, found(*logits))
    assert balance == pytest.approx(1, abs=1e-5)
    assert one_sided == pytest.approx(2, abs=1e-5)
    assert z == pytest.approx(np.log(2) ** 2)
    assert nothing == 0


def naive_losses(spec, router, row, segments):
    """The losses of one row by plain sums over its tokens that are no padding."""
    tokens = [token for token, segment in zip(row, segments, strict=True) if segment]
    share, mean, squares = np.zeros(spec.experts), np.zeros(spec.experts), 0.0
    for token in tokens:
        scores = token @ router
        probabilities = np.exp(scores) / np.exp(scores).sum()
        share[np.argsort(-probabilities)[: spec.top_k]] += 1 / spec.top_k / len(tokens)
        mean += probabilities / len(tokens)
        squares += np.log(np.exp(scores).sum()) ** 2 / len(tokens)
    return spec.balance_weight * spec.experts * share @ mean, spec.z_weight * squares


@pytest.mark.parametrize("mode", ["dropless", "capacity"])
def test_losses_are_those_of_each_row_alone(mode):
    """Two documents and padding, a whole row, nothing but padding, which has no loss and drops nothing."""
    segments = np.array([[1, 1, 1, 2, 2, 0, 0], [1] * 7, [0] * 7])
    settings = {"mode": mode, "balance_weight": 0.5, "z_weight": 0.25}
    x = drawn()
    _, losses, kernels = run(x, segments, **settings)
    expected = [naive_losses(spec_of(**settings), kernels["router"], *row) for row in zip(x, segments, strict=True)]
    assert expected[2] == (0, 0)
    found = np.stack([losses["moe_balance"], losses["moe_z"]], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert losses["moe_dropped"][2] == 0


def test_worked_example():
    spec = MoeSpec(2, 1, MlpSpec(3), normalize=False)
    chosen = jax.jit(moe.choose, static_argnums=1)(np.log([[[1.0, 3.0]]]), spec)
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
    segments = np.array([[1] * 4 + [2] * 3] * 3)
    settings = {"mode": "capacity", "top_k": 1, "capacity": 2, "crowded": True}
    x = np.abs(drawn())
    for per_document in (False, True):
        out, losses, _ = run(x, segments, per_document=per_document, **settings)
        kept = np.any(out != 0, axis=-1)
        assert kept.tolist() == [[True, True, False, False, *([per_document] * 2), False]] * 3
        np.testing.assert_allclose(losses["moe_dropped"], 3 * [3 / 7 if per_document else 5 / 7], rtol=1e-6)
    alone = run(x[:, 4:], per_document=True, **settings)[0]
    np.testing.assert_allclose(out[:, 4:], alone, atol=1e-6)


TOP = [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.mark.parametrize("top_k", TOP)
def test_counted_per_document_equals_counted_per_row_where_a_row_is_one(top_k):
    settings = {"mode": "capacity", "top_k": top_k, "capacity_factor": 0.8}
    (one, losses, _), (other, others, _) = (run(drawn(), per_document=way, **settings) for way in (False, True))
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert losses["moe_dropped"].min() > 0
    np.testing.assert_allclose(losses["moe_dropped"], others["moe_dropped"], rtol=1e-6)


def test_worked_examples_of_room():
    spec = MoeSpec(1, 1, MlpSpec(3), mode="capacity", capacity=1)

    @jax.jit
    def fitting(wants, segments):
        return moe.fitting_rows(wants, spec), moe.fitting_documents(wants, segments, spec)

    rows, documents = fitting(np.ones((1, 1, 3, 1), np.float32), np.array([[1, 1, 2]]))
    assert np.ravel(rows).tolist() == [1, 0, 0]
    assert np.ravel(documents).tolist() == [1, 0, 1]
    assert moe.row_room(MoeSpec(4, 2, MlpSpec(3), mode="capacity"), 8) == 5
    assert moe.row_room(MoeSpec(4, 2, MlpSpec(3), mode="capacity", capacity=64), 8) == 8


def test_matrices_are_linears_and_the_router_computes_in_float32():
    layer = nnx.eval_shape(lambda: made(spec_of()))
    assert {type(part) for part in (layer.up, layer.gate, layer.down)} == {ExpertLinear}
    assert layer.up.kernel.shape == (4, 5, 6)
    assert layer.up.kernel.get_metadata()["out_sharding"] == ("expert", "embed", "mlp")

    def half(x):
        layer = made(spec_of(), DtypePolicy(compute="bfloat16"))
        return layer.router(x), layer(x)[0]

    scores, out = jax.jit(half)(drawn().astype(jnp.bfloat16))
    assert scores.dtype == jnp.float32
    assert out.dtype == jnp.bfloat16


def test_kernels_travel_between_devices_in_the_compute_dtype():
    """What else a matrix holds (scales of a quantised one, an adapter) travels as it is stored."""
    layer = nnx.eval_shape(lambda: made(spec_of(), DtypePolicy(compute="bfloat16")))
    held = {"up": {"kernel": np.ones(2, np.float32), "scale": np.ones(2, np.float32)}, "down": {"kernel": np.int8([1])}}
    sent = jax.tree.map_with_path(layer._cast, held)
    assert sent["up"]["kernel"].dtype == jnp.bfloat16
    assert sent["up"]["scale"].dtype == np.float32
    assert sent["down"]["kernel"].dtype == np.int8
