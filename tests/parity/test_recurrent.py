"""LSTM, GRU and tanh networks against torch: outputs, last states and gradients."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed; run `make test-parity`", allow_module_level=True)

import torch
from flax import nnx

from t5x_style.models.layers.recurrent import RecurrentLayer
from t5x_style.models.specs import FLOAT32
from t5x_style.models.specs.recurrent_config import GATES
from tests.parity import pairs
from tests.parity.fast import slow_except

pytestmark = pytest.mark.parity
TOLERANCE = 1e-5
INPUTS, HIDDEN, BATCH, LENGTH = 7, 11, 3, 19
CASES = {
    "lstm": (torch.nn.LSTM, {}),
    "lstm-projected": (torch.nn.LSTM, {"proj_size": 5}),
    "gru": (torch.nn.GRU, {}),
    "rnn": (torch.nn.RNN, {}),
}


def matrix(weight, gates):
    """torch's [gates * H, inputs] as our [inputs, gates, H]."""
    return np.ascontiguousarray(weight.detach().numpy().T.reshape(weight.shape[1], gates, HIDDEN))


def pair(name):
    """(torch's layer, our state with its weights, our layer's graph, inputs)."""
    torch.manual_seed(0)
    make, settings = CASES[name]
    theirs = make(INPUTS, HIDDEN, batch_first=True, **settings)
    cell = name.split("-")[0]
    gates = GATES[cell]
    with torch.no_grad():
        for parameter in theirs.parameters():  # the default weights hardly remember
            parameter.mul_(3.0)
    sizes, how = (INPUTS, HIDDEN, settings.get("proj_size")), {"policy": FLOAT32, "stddev": None, "forget_bias": 1.0}
    with nnx.use_eager_sharding(False):  # shapes; every value is set below
        layer = nnx.eval_shape(lambda: RecurrentLayer(cell, *sizes, rngs=nnx.Rngs(0), **how))
    layer.input.kernel.set_value(jnp.asarray(matrix(theirs.weight_ih_l0, gates)))
    layer.recurrent.kernel.set_value(jnp.asarray(matrix(theirs.weight_hh_l0, gates)))
    first, second = (bias.detach().numpy().reshape(gates, HIDDEN) for bias in (theirs.bias_ih_l0, theirs.bias_hh_l0))
    if cell == "gru":
        layer.input.bias.set_value(jnp.asarray(first))
        layer.recurrent.bias.set_value(jnp.asarray(second))
    else:
        layer.input.bias.set_value(jnp.asarray(first + second))
    if "proj_size" in settings:
        layer.projection.kernel.set_value(jnp.asarray(theirs.weight_hr_l0.detach().numpy().T))
    inputs = np.random.default_rng(0).normal(size=(BATCH, LENGTH, INPUTS)).astype(np.float32)
    return theirs, layer, inputs


def last_state(found):
    return [part[0].detach().numpy() for part in (found if isinstance(found, tuple) else (found,))]


def continued(layer, inputs, state):
    return layer(inputs, None, state)


@pytest.mark.parametrize("name", slow_except(list(CASES), "lstm-projected", "gru", "rnn"))
def test_outputs_and_states(name):
    theirs, layer, inputs = pair(name)
    expected, state = theirs(torch.tensor(inputs))
    ours, last = pairs.run(continued, layer, jnp.asarray(inputs), layer.empty_state(BATCH))
    np.testing.assert_allclose(ours, expected.detach().numpy(), atol=TOLERANCE, rtol=TOLERANCE)
    for found, wanted in zip(last, last_state(state), strict=True):
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=TOLERANCE)
    more, state = theirs(torch.tensor(inputs), state)  # goes on from the state
    ours, last = pairs.run(continued, layer, jnp.asarray(inputs), last)
    np.testing.assert_allclose(ours, more.detach().numpy(), atol=TOLERANCE, rtol=TOLERANCE)
    assert float(np.std(expected.detach().numpy())) > 0.05


@pytest.mark.parametrize("name", slow_except(list(CASES), "lstm-projected"))
def test_gradients(name):
    theirs, layer, inputs = pair(name)
    cell = name.split("-")[0]
    outer = torch.tensor(inputs, requires_grad=True)
    expected, _ = theirs(outer)
    weights = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    (expected * torch.tensor(weights)).sum().backward()
    graphdef, params = nnx.split(layer)

    def loss(params, x):
        layer = nnx.merge(graphdef, params)
        return jnp.sum(layer(x, None, layer.empty_state(BATCH))[0] * weights)

    found, of_inputs = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, jnp.asarray(inputs))
    gates = GATES[cell]
    wanted = {
        "input/kernel": matrix(theirs.weight_ih_l0.grad, gates),
        "recurrent/kernel": matrix(theirs.weight_hh_l0.grad, gates),
        "input/bias": theirs.bias_ih_l0.grad.numpy().reshape(gates, HIDDEN),
    }
    if cell == "gru":
        wanted["recurrent/bias"] = theirs.bias_hh_l0.grad.numpy().reshape(gates, HIDDEN)
    if "projected" in name:
        wanted["projection/kernel"] = theirs.weight_hr_l0.grad.numpy().T
    ours = {"/".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(found)}
    assert set(ours) == set(wanted)
    for path, value in wanted.items():
        value, scale = np.asarray(value), float(np.abs(value).max())
        np.testing.assert_allclose(ours[path] / scale, value / scale, atol=TOLERANCE, rtol=TOLERANCE, err_msg=path)
    np.testing.assert_allclose(of_inputs, outer.grad.numpy(), atol=TOLERANCE, rtol=1e-4)
