"""One recurrent layer: the inputs' part of the gates in one product, then a scan over time.

Array suffixes: B batch, L length, G gates, H cells, W width of the layer's output (H, or the projection's).
Gates lie in torch's order: LSTM input, forget, candidate, output; GRU reset, update, candidate.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.layers.linear import Linear
from t5x_style.models.specs import DtypePolicy
from t5x_style.models.specs.recurrent_config import GATES

LayerState = tuple[jax.Array, ...]  # (output [B, W],), and for an LSTM its cells [B, H] in the reductions dtype
FORGET = 1  # place of the LSTM's forget gate


class RecurrentLayer(nnx.Module):
    """LSTM, GRU or tanh network over time.

    Attributes:
      input: x to gates, with the biases. recurrent: the last output to gates; only a GRU, whose reset gate stands
        between the two, needs a bias here. projection: cells to output, None: none.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden: int,
        projection: int | None,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        forget_bias: float,
    ):
        self.cell, self.hidden, self.policy = cell, hidden, policy
        self.width = hidden if projection is None else projection
        shape, axes = (GATES[cell], hidden), ("embed", None, "mlp")
        drawn = {"policy": policy, "rngs": rngs, "stddev": stddev}
        self.input = Linear((inputs,), shape, axes=axes, bias=True, **drawn)
        self.recurrent = Linear((self.width,), shape, axes=axes, bias=cell == "gru", **drawn)
        self.projection = (
            None if projection is None else Linear((hidden,), (projection,), axes=("mlp", "embed"), **drawn)
        )
        if cell == "lstm":
            assert self.input.bias is not None
            self.input.bias.set_value(self.input.bias[...].at[FORGET].set(forget_bias))

    def empty_state(self, batch: int) -> LayerState:
        """The state before the first token: zeros."""
        output = jnp.zeros((batch, self.width), self.policy.dtype("compute"))
        cells = jnp.zeros((batch, self.hidden), self.policy.dtype("reductions"))
        return (output, cells) if self.cell == "lstm" else (output,)

    def __call__(self, x_BLD: jax.Array, reset_BL: jax.Array | None, state: LayerState) -> tuple[jax.Array, LayerState]:
        """[B, L, inputs] -> ([B, L, W], the state after the last token).

        Args:
          reset_BL: True where a document begins, which forgets the state; None: nowhere.
        """
        gates_BLGH = mesh.constrain(self.input(x_BLD), ("act_batch", None, None, None))
        state = tuple(mesh.constrain(array, ("act_batch", None)) for array in state)
        # The loop runs on whole weights: gathered once, and no communication at any step.
        graphdef, weights = nnx.split((self.recurrent, self.projection))
        weights = jax.tree.map(lambda array: mesh.constrain(array, (None,) * array.ndim), weights)

        def step(state: LayerState, now: tuple[jax.Array, jax.Array | None]) -> tuple[LayerState, jax.Array]:
            gates_BGH, reset_B = now
            if reset_B is not None:
                state = tuple(jnp.where(reset_B[:, None], jnp.zeros_like(array), array) for array in state)
            recurrent, projection = nnx.merge(graphdef, weights)
            state = self._step(state, gates_BGH, recurrent, projection)
            return state, state[0]

        in_time = jnp.moveaxis(gates_BLGH, 1, 0), None if reset_BL is None else reset_BL.T
        state, out_LBW = jax.lax.scan(step, state, in_time)
        return jnp.moveaxis(out_LBW, 0, 1), state

    def _step(self, state: LayerState, gates_BGH: jax.Array, recurrent: Any, projection: Any) -> LayerState:
        """The state after one token; cells and gates in the reductions dtype, outputs in the compute dtype."""
        dtype, compute = self.policy.dtype("reductions"), self.policy.dtype("compute")
        given = gates_BGH.astype(dtype)
        own = recurrent(state[0]).astype(dtype)
        if self.cell == "rnn":
            return (jnp.tanh(given + own)[:, 0].astype(compute),)
        if self.cell == "gru":
            reset, update = (jax.nn.sigmoid(given[:, gate] + own[:, gate]) for gate in (0, 1))
            candidate = jnp.tanh(given[:, 2] + reset * own[:, 2])
            return (((1 - update) * candidate + update * state[0].astype(dtype)).astype(compute),)
        admit, forget, candidate, show = (given[:, gate] + own[:, gate] for gate in range(4))
        cells = jax.nn.sigmoid(forget) * state[1] + jax.nn.sigmoid(admit) * jnp.tanh(candidate)
        output = (jax.nn.sigmoid(show) * jnp.tanh(cells)).astype(compute)
        return (output if projection is None else projection(output), cells)
