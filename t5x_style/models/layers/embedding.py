"""The token embedding table, padded to a multiple that shards, and the language-model head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.config import DtypePolicy, HeadSpec
from t5x_style.models.layers.linear import truncated_normal

# Logit of a padded id: exp() of it is 0 beside any real logit, and it stays finite in every float format but
# float16, in which it is clipped to the lowest finite number.
PADDED_LOGIT = -1e9


class Embedding(nnx.Module):
    """Rows of a table [padded vocab, embed]."""

    def __init__(self, size: int, embed_dim: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float):
        self.policy = policy
        table = truncated_normal(rngs.params(), (size, embed_dim), stddev, policy.dtype("params"))
        self.table = nnx.Param(table, out_sharding=("vocab", "embed"))

    def __call__(self, tokens_BL: jax.Array) -> jax.Array:
        """[B, L] ids -> [B, L, embed] in the compute dtype; an id beyond the table gives NaN, not a neighbour's row."""
        # Whole rows before the look-up: rows split over the devices that split the batch cannot be exchanged cheaply.
        table_VD = mesh.constrain(self.table[...], ("act_vocab", "act_embed"))
        rows_BLD = jnp.take(table_VD, tokens_BL, axis=0).astype(self.policy.dtype("compute"))
        return mesh.constrain(rows_BLD, ("act_batch", "act_length", "act_embed"))


class Head(nnx.Module):
    """Vocabulary scores of hidden states.

    Attributes:
      table: [padded vocab, embed]; a tied head holds the embedding's own Param, made anew on each
        `Decoder.head`, so that the model itself has no shared references.
    """

    def __init__(
        self,
        spec: HeadSpec,
        *,
        table: nnx.Param,
        bias: nnx.Param | None,
        vocab_size: int,
        policy: DtypePolicy,
    ):
        self.spec = spec
        self.policy = policy
        self.vocab_size = vocab_size
        self.table = table
        self.bias = bias

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., embed] -> [..., padded vocab] in the logits dtype; padded ids get PADDED_LOGIT."""
        compute, dtype = self.policy.dtype("compute"), self.policy.dtype("logits")
        table_VD = self.table[...].astype(compute)
        contract = ((hidden.ndim - 1,), (1,))
        scores = jax.lax.dot_general(
            hidden.astype(compute), table_VD, (contract, ((), ())), preferred_element_type=dtype
        )
        if self.bias is not None:
            scores = scores + self.bias[...].astype(dtype)
        if self.spec.scale is not None:
            scores = scores * self.spec.scale
        if self.spec.softcap is not None:
            scores = self.spec.softcap * jnp.tanh(scores / self.spec.softcap)
        size = scores.shape[-1]
        if size == self.vocab_size:
            return scores
        floor = jnp.maximum(PADDED_LOGIT, jnp.finfo(dtype).min).astype(dtype)
        return jnp.where(jnp.arange(size) < self.vocab_size, scores, floor)
