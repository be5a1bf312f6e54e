"""Two-stream relative attention and its layer (Yang et al. 2019, section 2.3; Dai et al. 2019, section 3.3).

The content stream is ordinary self-attention. The query stream starts from one learnt vector, knows where it stands and
what its keys are, but not its own token. Both use the same weights.

Array suffixes: B batch, L queries, P predicted positions, M memory slots, S = M + L keys, R distances, D embed,
H heads, K head_dim, X 1, or 2 where the second half of the batch runs backwards.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models import randomness
from t5x_style.models.layers.block import RESIDUAL
from t5x_style.models.layers.linear import Linear, truncated_normal
from t5x_style.models.layers.mlp import Mlp
from t5x_style.models.layers.norms import Norm
from t5x_style.models.specs import NO_DROPOUT, AttentionSpec, DropoutSpec, DtypePolicy, LayerSpec, MlpSpec

Streams = tuple[jax.Array, jax.Array | None]  # content [B, L, D], query [B, P, D]; None without predicted positions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TwoStreamFacts:
    """What all layers of one forward pass share.

    Attributes:
      content_mask, query_mask: [B or 1, L, S], True where a position of the stream may look.
      document_mask: [B, L, S], True inside a document and its memory; None: one document. Nothing outside it has any
        influence, whatever the other masks say.
      encodings: [X, R, D] of the distances (query slot - key slot) S, S - 1, ...
      other_type: [B, L, S], True where query and key have different token types; None: types are not used.
      target_mapping: [B, P, L], 1 where prediction p is about position l; None without a query stream.
    """

    content_mask: jax.Array
    query_mask: jax.Array
    document_mask: jax.Array | None
    encodings: jax.Array
    other_type: jax.Array | None
    target_mapping: jax.Array | None

    def of_rows(self, rows: slice) -> TwoStreamFacts:
        """Those of some rows of the batch."""

        def cut(array: jax.Array | None) -> jax.Array | None:
            return array if array is None or array.shape[0] == 1 else array[rows]

        per_row = ("content_mask", "query_mask", "document_mask", "other_type", "target_mapping")
        return dataclasses.replace(self, **{name: cut(getattr(self, name)) for name in per_row})


def distance_encodings(queries: int, keys: int, dim: int, *, causal: bool, clamp: int | None) -> jax.Array:
    """[R, dim] float32: sines, then cosines, of the distances keys, keys - 1, ..., down to 0 or 1 - queries.

    Args:
      causal: distances below 0 (keys after the query) are not needed. clamp: larger ones count as this.
    """
    distances = jnp.arange(keys, -1 if causal else -queries, -1).astype(jnp.float32)
    if clamp is not None:
        distances = jnp.clip(distances, -clamp, clamp)
    rates = 1.0 / 10000.0 ** (jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    angles = distances[:, None] * rates
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def relative_shift(scores: jax.Array, keys: int) -> jax.Array:
    """[..., L, R] by distance -> [..., L, keys] by key slot (Dai et al. 2019, appendix B).

    Column c stands for the distance `keys - c`, so that query i finds slot j in column j + L - i. Where a causal
    model has no such column, after the query, the result is meaningless and must be masked.

    Worked example, L = 2, keys = 2, columns of the distances 2, 1, 0, -1, rows as numbers "row.distance":
    [[0.2, 0.1, 0.0, 0.-1], [1.2, 1.1, 1.0, 1.-1]] becomes [[0.0, 0.-1], [1.1, 1.0]].
    """
    *outer, queries, columns = scores.shape
    turned = scores.reshape(*outer, columns, queries)[..., 1:, :]
    return turned.reshape(*outer, queries, columns - 1)[..., :keys]


class TwoStreamAttention(nnx.Module):
    """Scores of content, of distance and of token types, each with a bias of its own in place of the query's position.

    Attributes:
      content_bias, position_bias, segment_bias: [H, K] (their r_w_bias, r_r_bias, r_s_bias).
      segment_embedding: [2, H, K], for keys of the same and of another token type.
    """

    def __init__(
        self,
        spec: AttentionSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
        blind: str,
        dropout: float = 0.0,
    ):
        self.spec = spec
        self.dropout = dropout
        self.policy = policy
        self.blind = blind
        shape, drawn = (spec.heads, spec.head_dim), embed_dim**-0.5 if stddev is None else stddev

        def inward() -> Linear:
            axes = ("embed", "heads", "head_dim")
            return Linear((embed_dim,), shape, axes=axes, policy=policy, rngs=rngs, stddev=stddev)

        def vectors(*leading: int) -> nnx.Param:
            values = truncated_normal(rngs.params(), (*leading, *shape), drawn, policy.dtype("params"))
            return nnx.Param(values, out_sharding=(None,) * len(leading) + ("heads", "head_dim"))

        self.query, self.key, self.value, self.position = inward(), inward(), inward(), inward()
        self.output = Linear(
            shape,
            (embed_dim,),
            axes=("heads", "head_dim", "embed"),
            policy=policy,
            rngs=rngs,
            stddev=stddev,
            gain=output_gain,
        )
        self.content_bias, self.position_bias, self.segment_bias = vectors(), vectors(), vectors()
        self.segment_embedding = vectors(2)

    def __call__(self, streams: Streams, memory_BMD: jax.Array | None, facts: TwoStreamFacts) -> Streams:
        """Both streams look at the content of this segment and of the memory; what they add to the residual."""
        content_BLD, query_BPD = streams
        seen_BSD = content_BLD if memory_BMD is None else jnp.concatenate([memory_BMD, content_BLD], axis=1)
        k_BSHK = mesh.constrain(self.key(seen_BSD), ("act_batch", None, "act_heads", None))
        v_BSHK = mesh.constrain(self.value(seen_BSD), ("act_batch", None, "act_heads", None))
        r_XRHK = self.position(facts.encodings)
        q_BLHK = mesh.constrain(self.query(content_BLD), ("act_batch", "act_length", "act_heads", None))
        content_BLHK = self._attend(q_BLHK, k_BSHK, v_BSHK, r_XRHK, facts.content_mask, facts)
        content_out_BLD = self.output(content_BLHK)
        if query_BPD is None:
            return content_out_BLD, None
        mapping_BPL = facts.target_mapping
        assert mapping_BPL is not None
        mapping_BPL = mapping_BPL.astype(q_BLHK.dtype)
        g_BLHK = jnp.einsum("BPHK,BPL->BLHK", self.query(query_BPD), mapping_BPL)
        with randomness.part("query stream"):
            g_BLHK = self._attend(g_BLHK, k_BSHK, v_BSHK, r_XRHK, facts.query_mask, facts)
        return content_out_BLD, self.output(jnp.einsum("BLHK,BPL->BPHK", g_BLHK, mapping_BPL))

    def _attend(
        self,
        q_BLHK: jax.Array,
        k_BSHK: jax.Array,
        v_BSHK: jax.Array,
        r_XRHK: jax.Array,
        mask_BLS: jax.Array,
        facts: TwoStreamFacts,
    ) -> jax.Array:
        """[B, L, H, K] of one stream."""
        dtype = self.policy.dtype("softmax")
        scores_BHLS = self._scores(q_BLHK, k_BSHK, r_XRHK, facts.other_type)
        # The lowest finite number: a row that sees nothing becomes the mean of its document ...
        scores_BHLS = jnp.where(mask_BLS[:, None], scores_BHLS, jnp.finfo(dtype).min)
        if facts.document_mask is not None:  # ... and of nothing outside it.
            scores_BHLS = jnp.where(facts.document_mask[:, None], scores_BHLS, -jnp.inf)
        weights_BHLS = jax.nn.softmax(scores_BHLS, axis=-1)
        if self.blind == "zero":
            weights_BHLS = jnp.where(jnp.any(mask_BLS, axis=-1)[:, None, :, None], weights_BHLS, 0.0)
        weights_BHLS = randomness.dropout(weights_BHLS, self.dropout, "attention weights")
        out_BLHK = jnp.einsum("BHLS,BSHK->BLHK", weights_BHLS.astype(v_BSHK.dtype), v_BSHK)
        return mesh.constrain(out_BLHK, ("act_batch", "act_length", "act_heads", None))

    def _scores(
        self, q_BLHK: jax.Array, k_BSHK: jax.Array, r_XRHK: jax.Array, other_type_BLS: jax.Array | None
    ) -> jax.Array:
        """[B, H, L, S] scaled scores in the softmax dtype, before masks."""
        dtype, compute = self.policy.dtype("softmax"), q_BLHK.dtype
        batch, length, heads, dim = q_BLHK.shape
        keys, ways = k_BSHK.shape[1], r_XRHK.shape[0]
        with_content = q_BLHK + self.content_bias[...].astype(compute)
        with_position = q_BLHK + self.position_bias[...].astype(compute)
        content_BHLS = jnp.einsum("BLHK,BSHK->BHLS", with_content, k_BSHK, preferred_element_type=dtype)
        halves = with_position.reshape(ways, batch // ways, length, heads, dim)
        by_distance = jnp.einsum("XBLHK,XRHK->XBHLR", halves, r_XRHK, preferred_element_type=dtype)
        scores_BHLS = content_BHLS + relative_shift(by_distance.reshape(batch, heads, length, -1), keys)
        if other_type_BLS is not None:
            with_segment = q_BLHK + self.segment_bias[...].astype(compute)
            kinds = self.segment_embedding[...].astype(compute)
            kinds_BHLT = jnp.einsum("BLHK,THK->BHLT", with_segment, kinds, preferred_element_type=dtype)
            scores_BHLS = scores_BHLS + jnp.where(other_type_BLS[:, None], kinds_BHLT[..., 1:], kinds_BHLT[..., :1])
        return scores_BHLS * (dim**-0.5 if self.spec.scale is None else self.spec.scale)


class TwoStreamBlock(nnx.Module):
    """One layer: attention and feed-forward, each norm(x + f(x)), on both streams with the same weights."""

    def __init__(
        self,
        spec: LayerSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
        blind: str,
        dropout: DropoutSpec = NO_DROPOUT,
    ):
        self.dropout = dropout.residual
        shared = {"policy": policy, "rngs": rngs, "stddev": stddev, "output_gain": output_gain}
        assert isinstance(spec.mlp, MlpSpec)
        self.attention = TwoStreamAttention(spec.attention, embed_dim, blind=blind, **shared, dropout=dropout.attention)
        self.attention_post_norm = Norm(spec.norm, embed_dim, axis="embed", policy=policy)
        self.mlp = Mlp(spec.mlp, embed_dim, **shared, dropout=dropout.hidden)
        self.mlp_post_norm = Norm(spec.norm, embed_dim, axis="embed", policy=policy)

    def __call__(self, streams: Streams, memory_BMD: jax.Array | None, facts: TwoStreamFacts) -> Streams:
        """The streams after this layer."""
        content_BLD, query_BPD = streams
        content_change, query_change = self.attention(streams, memory_BMD, facts)
        content_BLD = self._finish(content_BLD, content_change)
        if query_BPD is None:
            return content_BLD, None
        assert query_change is not None
        with randomness.part("query stream"):
            return content_BLD, self._finish(query_BPD, query_change)

    def _finish(self, x: jax.Array, change: jax.Array) -> jax.Array:
        change = randomness.dropout(change, self.dropout, "attention")
        x = mesh.constrain(self.attention_post_norm(x + change), RESIDUAL)
        change = randomness.dropout(self.mlp(x), self.dropout, "feed-forward")
        return mesh.constrain(self.mlp_post_norm(x + change), RESIDUAL)
