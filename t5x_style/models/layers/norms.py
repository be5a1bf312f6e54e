"""RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last dimension."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.models.specs import DtypePolicy, NormSpec


class Norm(nnx.Module):
    """Normalises the last dimension, then scales (and shifts, for layernorm).

    Statistics are taken in the reductions dtype; the result has the compute dtype.
    """

    def __init__(self, spec: NormSpec, size: int, *, axis: str, policy: DtypePolicy):
        self.spec = spec
        self.policy = policy
        dtype = policy.dtype("params")
        self.scale = nnx.Param(jnp.full((size,), 1.0 - spec.scale_offset, dtype), out_sharding=(axis,))
        self.bias = nnx.Param(jnp.zeros((size,), dtype), out_sharding=(axis,)) if spec.kind == "layernorm" else None

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., size] -> [..., size]."""
        x = x.astype(self.policy.dtype("reductions"))
        if self.spec.kind == "layernorm":
            x = x - jnp.mean(x, axis=-1, keepdims=True)
        y = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.spec.epsilon)
        scale = self.scale[...].astype(x.dtype)
        y = y * (scale + self.spec.scale_offset if self.spec.scale_offset else scale)
        if self.bias is not None:
            y = y + self.bias[...].astype(x.dtype)
        return y.astype(self.policy.dtype("compute"))
