"""Attention to itself or to an encoder: multi-head, grouped, multi-query; packed segments, windows, a cache.

Array suffixes: B batch, L queries, S keys, D embed, H query heads, G key/value heads, R = H / G, K head_dim.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models import randomness
from t5x_style.models.layers import blockwise, masks, plain_attention
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.norms import Norm
from t5x_style.models.layers.positions import distance_bias, rope
from t5x_style.models.layers.positions.distance_bias import DistanceBias
from t5x_style.models.specs import AttentionSpec, DtypePolicy, LayerSpec, RopeSpec

LayerCache = tuple[jax.Array, jax.Array]  # keys and values, each [B, G, S, K]
Bias = Callable[[jax.Array], jax.Array]  # [G, R, *distances.shape] of int distances


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotations:
    """Rotary tables by (spec, head_dim): a pytree of `tables`, [B or 1, L, ...] each."""

    keys: tuple[tuple[RopeSpec, int], ...] = dataclasses.field(metadata={"static": True})
    tables: tuple[rope.Tables, ...]

    def __getitem__(self, key: tuple[RopeSpec, int]) -> rope.Tables:
        return self.tables[self.keys.index(key)]


def rotations(positions: jax.Array, layers: Iterable[LayerSpec]) -> Rotations:
    """The tables of positions [B, L] (or [B, L, 2], see RopeSpec) that the attention of `layers` turns by."""
    wanted = ((layer.attention.rope, layer.attention.head_dim) for layer in layers)
    keys = tuple(dict.fromkeys((spec, dim) for spec, dim in wanted if spec is not None))
    return Rotations(keys, tuple(rope.tables(positions, spec, dim) for spec, dim in keys))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AttentionFacts:
    """What all layers of one forward pass share: a pytree of arrays, which can be cut by rows.

    Attributes:
      sight: makes the masks. rotations: rotary tables by (spec, head_dim).
      bias: gives the relative bias [H, distances] of int distances (T5); None without one.
      cache_index: slot at which new keys and values are written; None without a cache.
      encoder_BSD: what cross-attention looks at; None in models without it, and in decoding, which keeps the keys and
        values that were made of it.
      cross_sight: makes the masks of cross-attention.
      attention: Execution.attention, where there is no cache.
    """

    sight: masks.Sight
    rotations: Rotations
    bias: DistanceBias | None = None
    cache_index: jax.Array | None = None
    encoder_BSD: jax.Array | None = None
    cross_sight: masks.Sight | None = None
    attention: str = dataclasses.field(default="auto", metadata={"static": True})

    def of_rows(self, rows: slice) -> AttentionFacts:
        """Those of some rows of the batch, such as one microbatch of a pipeline. Not with a cache."""
        assert self.cache_index is None, "a cache is cut by its owner"
        tables = jax.tree.map(lambda table: table if table.shape[0] == 1 else table[rows], self.rotations.tables)
        return dataclasses.replace(
            self,
            sight=self.sight.of_rows(rows),
            rotations=dataclasses.replace(self.rotations, tables=tables),
            encoder_BSD=None if self.encoder_BSD is None else self.encoder_BSD[rows],
            cross_sight=None if self.cross_sight is None else self.cross_sight.of_rows(rows),
        )


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
        dropout: float = 0.0,
    ):
        self.spec = spec
        self.dropout = dropout
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
        self, x_BLD: jax.Array, facts: AttentionFacts, cache: LayerCache | None = None
    ) -> tuple[jax.Array, LayerCache | None]:
        """[B, L, embed] -> ([B, L, embed], the cache with these keys and values written at `cache_index`)."""
        spec = self.spec
        q_BLHK = self._queries(x_BLD)
        k_BLGK, v_BLGK = self.keys_values(x_BLD)
        if spec.rope is not None:
            turn = facts.rotations[spec.rope, spec.head_dim]
            q_BLHK, k_BLGK = rope.apply(q_BLHK, turn, spec.rope), rope.apply(k_BLGK, turn, spec.rope)
        form = self._form(prefix=facts.sight.query_prefix is not None)
        q_BGRLK = self._grouped(q_BLHK)
        if cache is None:
            out_BGRLK = self._attended(q_BGRLK, k_BLGK, v_BLGK, facts, facts.sight, form, "attention weights")
        else:
            start = (0, 0, facts.cache_index, 0)
            k_BGLK, v_BGLK = (new.transpose(0, 2, 1, 3).astype(cache[0].dtype) for new in (k_BLGK, v_BLGK))
            cache = (
                jax.lax.dynamic_update_slice(cache[0], k_BGLK, start),
                jax.lax.dynamic_update_slice(cache[1], v_BGLK, start),
            )
            bias_GRLS = _of_slots(self._bias(facts), facts.sight)
            out_BGRLK = plain_attention.attend(q_BGRLK, *cache, facts.sight, form, bias_GRLS)
        return self._projected(out_BGRLK), cache

    def cross(self, x_BLD: jax.Array, facts: AttentionFacts, crossed: LayerCache | None = None) -> jax.Array:
        """[B, L, embed] -> [B, L, embed], looking at the encoder, whose keys and values may be computed before."""
        assert facts.cross_sight is not None
        q_BGRLK = self._grouped(self._queries(x_BLD))
        form = self._form(prefix=False)
        if crossed is not None:
            out_BGRLK = plain_attention.attend(q_BGRLK, *crossed, facts.cross_sight, form)
        else:
            assert facts.encoder_BSD is not None
            keys, values = self.keys_values(facts.encoder_BSD)
            out_BGRLK = self._attended(q_BGRLK, keys, values, facts, facts.cross_sight, form, "cross-attention weights")
        return self._projected(out_BGRLK)

    def crossed(self, x_BSD: jax.Array) -> LayerCache:
        """What `cross` computes of the encoder's states [B, S, embed], as a cache holds it."""
        k_BSGK, v_BSGK = self.keys_values(x_BSD)
        return k_BSGK.transpose(0, 2, 1, 3), v_BSGK.transpose(0, 2, 1, 3)

    def keys_values(self, x_BSD: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys, normalised where the spec says so and not yet turned, and values, each [B, S, G, K]."""
        k_BSGK = mesh.constrain(self.key(x_BSD), ("act_batch", None, "act_kv_heads", None))
        v_BSGK = mesh.constrain(self.value(x_BSD), ("act_batch", None, "act_kv_heads", None))
        return k_BSGK if self.key_norm is None else self.key_norm(k_BSGK), v_BSGK

    def _queries(self, x_BLD: jax.Array) -> jax.Array:
        q_BLHK = mesh.constrain(self.query(x_BLD), ("act_batch", "act_length", "act_heads", None))
        return q_BLHK if self.query_norm is None else self.query_norm(q_BLHK)

    def _form(self, prefix: bool) -> blockwise.Form:
        spec = self.spec
        return blockwise.Form(
            causal=spec.causal,
            window=spec.window,
            softcap=spec.logit_softcap,
            softmax_dtype=self.policy.dtype("softmax"),
            prefix=prefix,
        )

    def _grouped(self, q_BLHK: jax.Array) -> jax.Array:
        """Scaled queries as [B, G, R, L, K]."""
        spec = self.spec
        batch, length, heads, dim = q_BLHK.shape
        scale = spec.head_dim**-0.5 if spec.scale is None else spec.scale
        q_BLGRK = (q_BLHK * scale).reshape(batch, length, spec.kv_heads, heads // spec.kv_heads, dim)
        return q_BLGRK.transpose(0, 2, 3, 1, 4)

    def _attended(
        self,
        q_BGRLK: jax.Array,
        k_BSGK: jax.Array,
        v_BSGK: jax.Array,
        facts: AttentionFacts,
        sight: masks.Sight,
        form: blockwise.Form,
        place: str,
    ) -> jax.Array:
        """[B, G, R, L, K] without a cache, in the way that the execution says."""
        bias = self._bias(facts) if sight is facts.sight else None
        k_BGSK, v_BGSK = k_BSGK.transpose(0, 2, 1, 3), v_BSGK.transpose(0, 2, 1, 3)
        if facts.attention == "xla" or randomness.active(self.dropout):
            bias_GRLS = _of_slots(bias, sight)
            return plain_attention.attend(q_BGRLK, k_BGSK, v_BGSK, sight, form, bias_GRLS, self.dropout, place)
        queries, keys = q_BGRLK.shape[3], k_BGSK.shape[2]
        bias_GRD = None if bias is None else bias(jnp.arange(1 - queries, keys, dtype=jnp.int32))
        return blockwise.attend(q_BGRLK, k_BGSK, v_BGSK, sight, form, bias_GRD)

    def _bias(self, facts: AttentionFacts) -> Bias | None:
        """Gives [G, R, *distances.shape] of int distances (key slot - query slot), or None."""
        heads = (self.spec.kv_heads, self.spec.heads // self.spec.kv_heads)
        if self.spec.alibi:
            return lambda distances: distance_bias.alibi(self.spec.heads, distances).reshape(*heads, -1)
        if facts.bias is not None:
            shared = facts.bias
            return lambda distances: shared(distances).reshape(*heads, -1)
        return None

    def _projected(self, out_BGRLK: jax.Array) -> jax.Array:
        batch, groups, each, length, dim = out_BGRLK.shape
        out_BLHK = out_BGRLK.transpose(0, 3, 1, 2, 4).reshape(batch, length, groups * each, dim)
        return self.output(mesh.constrain(out_BLHK, ("act_batch", "act_length", "act_heads", None)))


def _of_slots(bias: Bias | None, sight: masks.Sight) -> jax.Array | None:
    """[G, R, L, S] for queries and keys at any slots; None without a bias."""
    if bias is None:
        return None
    distances = sight.key_index[None, :] - sight.query_index[:, None]
    flat = bias(distances.reshape(-1))
    return flat.reshape(*flat.shape[:2], *distances.shape)
