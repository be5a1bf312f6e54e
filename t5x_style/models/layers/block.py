"""One transformer layer: attention and feed-forward, each with a residual and norms where the spec puts them."""

from __future__ import annotations

import jax
from flax import nnx

from t5x_style import mesh
from t5x_style.models.config import DtypePolicy, LayerSpec
from t5x_style.models.layers.attention import Attention, Context, LayerCache
from t5x_style.models.layers.mlp import Mlp
from t5x_style.models.layers.norms import Norm

RESIDUAL = ("act_batch", "act_length", "act_embed")


class Block(nnx.Module):
    """x -> x + attention -> x + mlp, normalised before ("pre"), after ("post") or both ("sandwich")."""

    def __init__(
        self,
        spec: LayerSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
    ):
        def norm(wanted: bool) -> Norm | None:
            return Norm(spec.norm, embed_dim, axis="embed", policy=policy) if wanted else None

        before, after = spec.placement in ("pre", "sandwich"), spec.placement in ("post", "sandwich")
        self.spec = spec
        self.attention_norm = norm(before)
        self.attention = Attention(
            spec.attention, embed_dim, policy=policy, rngs=rngs, stddev=stddev, output_gain=output_gain
        )
        self.attention_post_norm = norm(after)
        self.mlp_norm = norm(before)
        self.mlp = Mlp(spec.mlp, embed_dim, policy=policy, rngs=rngs, stddev=stddev, output_gain=output_gain)
        self.mlp_post_norm = norm(after)

    def __call__(
        self, x_BLD: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """[B, L, embed] -> ([B, L, embed], this layer's updated cache)."""
        attended, cache = self.attention(_maybe(self.attention_norm, x_BLD), context, cache)
        x_BLD = self._residual(x_BLD, attended, self.attention_post_norm)
        x_BLD = self._residual(x_BLD, self.mlp(_maybe(self.mlp_norm, x_BLD)), self.mlp_post_norm)
        return x_BLD, cache

    def _residual(self, x_BLD: jax.Array, change_BLD: jax.Array, post: Norm | None) -> jax.Array:
        if self.spec.placement == "post":
            return mesh.constrain(_maybe(post, x_BLD + change_BLD), RESIDUAL)
        return mesh.constrain(x_BLD + _maybe(post, change_BLD), RESIDUAL)


def _maybe(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)
