"""Self-attention: multi-head, grouped and multi-query, with packed segments, windows and a key/value cache.

Array suffixes: B batch, L queries, S keys, D embed, H query heads, G key/value heads, R = H / G, K head_dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.config import AttentionSpec, DtypePolicy, RopeSpec
from t5x_style.models.layers import blockwise, masks
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.norms import Norm
from t5x_style.models.layers.positions import rope

LayerCache = tuple[jax.Array, jax.Array]  # keys and values, each [B, S, G, K]


@dataclasses.dataclass(frozen=True)
class Context:
    """What all layers of one forward pass share.

    Attributes:
      sight: makes the masks. rotations: rotary tables by (spec, head_dim).
      cache_index: slot at which new keys and values are written; None without a cache.
    """

    sight: masks.Sight
    rotations: Mapping[tuple[RopeSpec, int], rope.Tables]
    cache_index: jax.Array | None = None


def attend_cached(
    q_BGRLK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, sight: masks.Sight, form: blockwise.Form
) -> jax.Array:
    """softmax(q k^T) v over all S slots of a cache; grouped keys and values are never repeated.

    Returns:
      [B, G, R, L, K] in the dtype of v.
    """
    scores_BGRLS = jnp.einsum("BGRLK,BSGK->BGRLS", q_BGRLK, k_BSGK, preferred_element_type=form.softmax_dtype)
    if form.softcap is not None:
        scores_BGRLS = form.softcap * jnp.tanh(scores_BGRLS / form.softcap)
    mask_BLS = masks.visible(sight, causal=form.causal, window=form.window)
    if mask_BLS is not None:
        # The lowest finite number, not -inf: a padded row that sees nothing stays finite.
        scores_BGRLS = jnp.where(mask_BLS[:, None, None], scores_BGRLS, jnp.finfo(form.softmax_dtype).min)
    weights_BGRLS = jax.nn.softmax(scores_BGRLS, axis=-1).astype(v_BSGK.dtype)
    return jnp.einsum("BGRLS,BSGK->BGRLK", weights_BGRLS, v_BSGK)


class Attention(nnx.Module):
    """Projections, rotation, attention, output projection."""

    def __init__(
        self,
        spec: AttentionSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
    ):
        self.spec = spec
        self.policy = policy

        def inward(heads: int, axis: str) -> Linear:
            return Linear(
                (embed_dim,),
                (heads, spec.head_dim),
                axes=("embed", axis, "head_dim"),
                policy=policy,
                rngs=rngs,
                bias=spec.qkv_bias,
                stddev=stddev,
            )

        self.query = inward(spec.heads, "heads")
        self.key = inward(spec.kv_heads, "kv_heads")
        self.value = inward(spec.kv_heads, "kv_heads")
        self.output = Linear(
            (spec.heads, spec.head_dim),
            (embed_dim,),
            axes=("heads", "head_dim", "embed"),
            policy=policy,
            rngs=rngs,
            bias=spec.output_bias,
            stddev=stddev,
            gain=output_gain,
        )
        norm = spec.qk_norm
        self.query_norm = None if norm is None else Norm(norm, spec.head_dim, axis="head_dim", policy=policy)
        self.key_norm = None if norm is None else Norm(norm, spec.head_dim, axis="head_dim", policy=policy)

    def __call__(
        self, x_BLD: jax.Array, context: Context, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """[B, L, embed] -> ([B, L, embed], the cache with these keys and values written at `cache_index`)."""
        spec = self.spec
        q_BLHK = mesh.constrain(self.query(x_BLD), ("act_batch", "act_length", "act_heads", None))
        k_BLGK = mesh.constrain(self.key(x_BLD), ("act_batch", None, "act_kv_heads", None))
        v_BLGK = mesh.constrain(self.value(x_BLD), ("act_batch", None, "act_kv_heads", None))
        if self.query_norm is not None and self.key_norm is not None:
            q_BLHK, k_BLGK = self.query_norm(q_BLHK), self.key_norm(k_BLGK)
        if spec.rope is not None:
            turn = context.rotations[spec.rope, spec.head_dim]
            q_BLHK, k_BLGK = rope.apply(q_BLHK, turn), rope.apply(k_BLGK, turn)
        batch, length, heads, dim = q_BLHK.shape
        form = blockwise.Form(
            causal=spec.causal,
            window=spec.window,
            softcap=spec.logit_softcap,
            softmax_dtype=self.policy.dtype("softmax"),
            prefix=context.sight.query_prefix is not None,
        )
        scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        q_BLGRK = (q_BLHK * scale).reshape(batch, length, spec.kv_heads, heads // spec.kv_heads, dim)
        q_BGRLK = q_BLGRK.transpose(0, 2, 3, 1, 4)
        if cache is None:
            k_BGLK, v_BGLK = k_BLGK.transpose(0, 2, 1, 3), v_BLGK.transpose(0, 2, 1, 3)
            out_BGRLK = blockwise.attend(q_BGRLK, k_BGLK, v_BGLK, context.sight, form)
        else:
            start = (0, context.cache_index, 0, 0)
            k_BSGK = jax.lax.dynamic_update_slice(cache[0], k_BLGK.astype(cache[0].dtype), start)
            v_BSGK = jax.lax.dynamic_update_slice(cache[1], v_BLGK.astype(cache[1].dtype), start)
            cache = (k_BSGK, v_BSGK)
            out_BGRLK = attend_cached(q_BGRLK, k_BSGK, v_BSGK, context.sight, form)
        out_BLHK = out_BGRLK.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, dim)
        return self.output(mesh.constrain(out_BLHK, ("act_batch", "act_length", "act_heads", None))), cache
