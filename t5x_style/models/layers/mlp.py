"""Feed-forward blocks, plain and gated."""

from __future__ import annotations

import jax
from flax import nnx

from t5x_style import mesh
from t5x_style.models import randomness
from t5x_style.models.layers.activations import ACTIVATIONS
from t5x_style.models.layers.linear import Linear
from t5x_style.models.specs import DtypePolicy, MlpSpec


class Mlp(nnx.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) when the spec is gated."""

    def __init__(
        self,
        spec: MlpSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
        dropout: float = 0.0,
    ):
        self.spec = spec
        self.dropout = dropout

        def inward() -> Linear:
            return Linear(
                (embed_dim,),
                (spec.hidden,),
                axes=("embed", "mlp"),
                policy=policy,
                rngs=rngs,
                bias=spec.bias,
                stddev=stddev,
            )

        self.gate = inward() if spec.gated else None
        self.up = inward()
        self.down = Linear(
            (spec.hidden,),
            (embed_dim,),
            axes=("mlp", "embed"),
            policy=policy,
            rngs=rngs,
            bias=spec.bias,
            stddev=stddev,
            gain=output_gain,
        )

    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        """[B, L, embed] -> [B, L, embed]."""
        activation = ACTIVATIONS[self.spec.activation]
        up_BLM = self.up(x_BLD)  # M: hidden size
        hidden_BLM = activation(up_BLM) if self.gate is None else activation(self.gate(x_BLD)) * up_BLM
        hidden_BLM = randomness.dropout(hidden_BLM, self.dropout, "feed-forward hidden")
        return self.down(mesh.constrain(hidden_BLM, ("act_batch", "act_length", "act_mlp")))
