"""Decoders and encoders: embedding, trunk, final norm, head."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models import heads, randomness
from t5x_style.models.layers.attention import AttentionFacts, Rotations, rotations
from t5x_style.models.layers.embedding import Embedding, Head, HeadTransform, InputEmbedding
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.masks import Sight
from t5x_style.models.layers.norms import Norm
from t5x_style.models.specs import (
    DEFAULT_EXECUTION,
    DecoderConfig,
    DtypePolicy,
    Execution,
    SpanBoundarySpec,
    TransformerConfig,
)
from t5x_style.models.specs.checks import check
from t5x_style.models.stack import Trunk


def check_attention(config: TransformerConfig, execution: Execution) -> None:
    """Raises UserError where attention weights are to be dropped by an attention that keeps none."""
    rate = config.dropout.attention
    check(
        execution.attention != "blockwise" or rate == 0,
        f"Execution.attention is 'blockwise', which cannot drop attention weights (DropoutSpec.attention is {rate}); "
        "choose auto or xla",
    )


class Transformer(nnx.Module):
    """What Decoder and Encoder share: the parts, the heads, the rotary tables."""

    pooler: Linear | None = None  # only encoders have one

    def __init__(
        self,
        config: TransformerConfig,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        execution: Execution = DEFAULT_EXECUTION,
        trunk: Callable[..., Any] = Trunk,  # XLNet's layers carry two streams
    ):
        check_attention(config, execution)
        size, width, init = config.padded_vocab_size, config.embed_dim, config.init
        stddev = width**-0.5 if init.stddev is None else init.stddev
        self.config = config
        self.policy = policy
        self.execution = execution
        self.embedding = InputEmbedding(
            size,
            width,
            config.embedding,
            policy=policy,
            rngs=rngs,
            stddev=stddev,
            scale=config.embedding_scale,
            dropout=config.dropout.embedding,
        )
        self.trunk = trunk(config, policy=policy, rngs=rngs, execution=execution)
        final = config.final_norm
        self.final_norm = None if final is None else Norm(final, width, axis="embed", policy=policy)
        spec, tied = config.head, config.tied_embeddings or config.head is None
        columns = width
        if spec is not None and spec.transform is not None and config.embedding.dim is not None:
            columns = config.embedding.dim
        self.unembedding = None if tied else Embedding(size, columns, policy=policy, rngs=rngs, stddev=stddev)
        self.head_transform = (
            None
            if spec is None or spec.transform is None
            else HeadTransform(spec, width, columns, policy=policy, rngs=rngs, stddev=init.stddev)
        )
        bias = jnp.zeros((size,), policy.dtype("params")) if spec is not None and spec.bias else None
        self.head_bias = None if bias is None else nnx.Param(bias, out_sharding=("vocab",))
        self.task_heads = heads.weights_of(config, policy=policy, rngs=rngs)

    @property
    def head(self) -> Head:
        """The language-model head, over the embedding table when tied; UserError where the model has none."""
        if self.config.head is None:
            raise UserError("the model has no vocabulary head (config.head is None); its task heads are in model.tasks")
        owner = self.embedding if self.unembedding is None else self.unembedding
        return Head(
            self.config.head,
            table=owner.table,
            bias=self.head_bias,
            vocab_size=self.config.vocab_size,
            policy=self.policy,
            transform=self.head_transform,
        )

    @property
    def tasks(self) -> dict[str, heads.TaskHead | heads.SpanBoundaryHead]:
        """The task heads by name: `model.tasks[name].logits(hidden, segment_ids=segment_ids)`."""
        found: dict[str, heads.TaskHead | heads.SpanBoundaryHead] = {}
        for spec in self.config.tasks:
            weights = self.task_heads[spec.name]
            if isinstance(spec, SpanBoundarySpec):
                table, size = self.embedding.table, self.config.vocab_size
                found[spec.name] = heads.SpanBoundaryHead(spec, weights, table, size, self.policy)
            else:
                found[spec.name] = heads.TaskHead(spec, weights, self.pooler, self.policy)
        return found

    def finish(self, x: jax.Array) -> jax.Array:
        """What is done behind the last layer: [..., embed] -> hidden states."""
        x = x if self.final_norm is None else self.final_norm(x)
        return randomness.dropout(x, self.config.dropout.final, "final")

    def rotations(self, positions: jax.Array) -> Rotations:
        """Rotary tables of positions [B, L] (or [B, L, 2], see RopeSpec) for all layers."""
        return rotations(positions, self.config.layers)


class Decoder(Transformer):
    """Tokens to hidden states; `model.head.logits(hidden)` turns them into vocabulary scores."""

    config: DecoderConfig

    def __call__(
        self,
        tokens: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        causal_attention: jax.Array | None = None,
        cache: Any = None,
        return_losses: bool = False,
    ) -> Any:
        """Hidden states after the final norm.

        Args:
          tokens: [B, L] int ids.
          segment_ids: [B, L] int; tokens see only their own segment, 0 is padding. None: one segment.
          positions: [B, L] int for the position encoding ([B, L, 2] for two-dimensional rotary positions). None: 0, 1,
            2, ... (after what the cache holds).
          causal_attention: [B, L]; nonzero positions of a segment see each other in both directions (prefix LM).
          cache: a decoding.cache.KVCache with room for L more tokens; all rows write at the same slot, and
            row offsets are padding (segment 0) on the left.
          return_losses: without a cache, gives (hidden, losses) with the routers' losses [B], {} without experts.

        Returns:
          hidden [B, L, embed] in the compute dtype; with a cache (hidden, the advanced cache).
        """
        length = tokens.shape[1]
        index = None if cache is None else cache.index
        steps = jnp.arange(length, dtype=jnp.int32) if index is None else index + jnp.arange(length, dtype=jnp.int32)
        key_index, key_segments, key_prefix = steps, segment_ids, causal_attention
        if cache is not None:
            slots = cache.segment_ids.shape[1]
            segment_ids = jnp.ones_like(tokens) if segment_ids is None else segment_ids
            key_index = jnp.arange(slots, dtype=jnp.int32)
            key_segments = jax.lax.dynamic_update_slice(
                cache.segment_ids, segment_ids.astype(cache.segment_ids.dtype), (0, index)
            )
            if causal_attention is not None:
                empty = jnp.zeros((tokens.shape[0], slots), causal_attention.dtype)
                key_prefix = jax.lax.dynamic_update_slice(empty, causal_attention, (0, index))
        places = steps[None] if positions is None else positions
        facts = AttentionFacts(
            sight=Sight(steps, key_index, segment_ids, key_segments, causal_attention, key_prefix),
            rotations=self.rotations(places),
            cache_index=index,
        )
        x_BLD = self.embedding.embed(tokens, places)
        x_BLD, layers, losses = self.trunk(x_BLD, facts, None if cache is None else cache.layers)
        hidden_BLD = self.finish(x_BLD)
        if cache is None:
            return (hidden_BLD, losses) if return_losses else hidden_BLD
        return hidden_BLD, dataclasses.replace(cache, layers=layers, segment_ids=key_segments, index=index + length)
