"""One transformer layer: attention, cross-attention and feed-forward, with residuals and norms as the spec says."""

from __future__ import annotations

import jax
from flax import nnx

from t5x_style import mesh
from t5x_style.models import randomness
from t5x_style.models.layers.attention import Attention, AttentionFacts, LayerCache
from t5x_style.models.layers.mlp import Mlp
from t5x_style.models.layers.moe import Losses, Moe
from t5x_style.models.layers.norms import Norm
from t5x_style.models.specs import NO_DROPOUT, DropoutSpec, DtypePolicy, LayerSpec, MoeSpec

RESIDUAL = ("act_batch", "act_length", "act_embed")


class Block(nnx.Module):
    """x -> x + attention -> x + cross-attention -> x + mlp, normalised where the placement says."""

    def __init__(
        self,
        spec: LayerSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
        dropout: DropoutSpec = NO_DROPOUT,
    ):
        def norm(wanted: bool) -> Norm | None:
            return Norm(spec.norm, embed_dim, axis="embed", policy=policy) if wanted else None

        before, after = spec.placement != "post", spec.placement in ("post", "sandwich")
        shared = {"policy": policy, "rngs": rngs, "stddev": stddev, "output_gain": output_gain}
        self.spec = spec
        self.dropout = dropout.residual
        self.attention_norm = norm(before)
        self.attention = Attention(spec.attention, embed_dim, **shared, dropout=dropout.attention)
        self.attention_post_norm = norm(after)
        crossing = spec.cross_attention
        self.cross_norm = norm(before and crossing is not None)
        self.cross_attention = (
            None if crossing is None else Attention(crossing, embed_dim, **shared, dropout=dropout.attention)
        )
        self.cross_post_norm = norm(after and crossing is not None)
        self.mlp_norm = norm(before)
        mlp = spec.mlp
        self.mlp = (
            Moe(mlp, embed_dim, **shared)
            if isinstance(mlp, MoeSpec)
            else Mlp(mlp, embed_dim, **shared, dropout=dropout.hidden)
        )
        self.mlp_post_norm = norm(after)

    def __call__(
        self,
        x_BLD: jax.Array,
        facts: AttentionFacts,
        cache: LayerCache | None = None,
        crossed: LayerCache | None = None,
    ) -> tuple[jax.Array, LayerCache | None, Losses]:
        """[B, L, embed] -> ([B, L, embed], this layer's updated cache, its router's losses; {} without experts).

        Args:
          crossed: keys and values of the encoder, where they were computed before.
        """
        inner = _maybe(self.attention_norm, x_BLD)
        attended, cache = self.attention(inner, facts, cache)
        x_BLD = self._residual(x_BLD, inner, attended, self.attention_post_norm, "attention")
        if self.cross_attention is not None:
            inner = _maybe(self.cross_norm, x_BLD)
            looked = self.cross_attention.cross(inner, facts, crossed)
            x_BLD = self._residual(x_BLD, inner, looked, self.cross_post_norm, "cross-attention")
        inner = _maybe(self.mlp_norm, x_BLD)
        losses: Losses = {}
        if isinstance(self.mlp, Moe):
            changed, losses = self.mlp(inner, facts.sight.query_segments)
        else:
            changed = self.mlp(inner)
        return self._residual(x_BLD, inner, changed, self.mlp_post_norm, "feed-forward"), cache, losses

    def _residual(
        self, x_BLD: jax.Array, inner_BLD: jax.Array, change_BLD: jax.Array, post: Norm | None, place: str
    ) -> jax.Array:
        change_BLD = randomness.dropout(change_BLD, self.dropout, place)
        if self.spec.placement == "post":
            return mesh.constrain(_maybe(post, x_BLD + change_BLD), RESIDUAL)
        if self.spec.placement == "normed":
            return mesh.constrain(inner_BLD * self.spec.residual_scale + change_BLD, RESIDUAL)
        return mesh.constrain(x_BLD + _maybe(post, change_BLD), RESIDUAL)


def _maybe(norm: Norm | None, x: jax.Array) -> jax.Array:
    return x if norm is None else norm(x)
