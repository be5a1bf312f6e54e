"""Encoder-decoder: T5 and its kin, over one token embedding."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.models import randomness
from t5x_style.models.decoder import Transformer, check_attention
from t5x_style.models.layers.attention import AttentionFacts, LayerCache, rotations
from t5x_style.models.layers.masks import Sight
from t5x_style.models.layers.moe import Losses
from t5x_style.models.layers.norms import Norm
from t5x_style.models.specs import DEFAULT_EXECUTION, DtypePolicy, EncoderDecoderConfig, Execution
from t5x_style.models.stack import Trunk, add_losses


class EncoderDecoder(Transformer):
    """Encoder tokens and decoder tokens to decoder hidden states; `model.head.logits(hidden)` are the scores.

    The parts of the base class are the decoder's; `encoder_trunk` and `encoder_norm` are beside them.
    """

    def __init__(
        self,
        config: EncoderDecoderConfig,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        execution: Execution = DEFAULT_EXECUTION,
    ):
        super().__init__(config.decoder, policy=policy, rngs=rngs, execution=execution)
        check_attention(config.encoder, execution)
        self.architecture = config
        self.encoder_trunk = Trunk(config.encoder, policy=policy, rngs=rngs, execution=execution)
        final = config.encoder.final_norm
        self.encoder_norm = None if final is None else Norm(final, config.embed_dim, axis="embed", policy=policy)

    def encode(
        self, tokens: jax.Array, *, segment_ids: jax.Array | None = None, positions: jax.Array | None = None
    ) -> tuple[jax.Array, Losses]:
        """Encoder hidden states [B, S, embed] of tokens [B, S], and its routers' losses; arguments as of `Encoder`."""
        steps = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        places = steps[None] if positions is None else positions
        facts = AttentionFacts(
            sight=Sight(steps, steps, segment_ids, segment_ids),
            rotations=rotations(places, self.architecture.encoder.layers),
        )
        with randomness.part("encoder"):
            x_BSD, _, losses = self.encoder_trunk(self.embedding.embed(tokens, places), facts)
            x_BSD = x_BSD if self.encoder_norm is None else self.encoder_norm(x_BSD)
            return randomness.dropout(x_BSD, self.architecture.encoder.dropout.final, "final"), losses

    def cross(self, encoder_BSD: jax.Array) -> tuple[LayerCache, ...]:
        """Keys and values of every cross-attention: what decoding computes once."""
        crossing = [block.cross_attention for block in self.trunk.blocks()]
        return tuple(attention.crossed(encoder_BSD) for attention in crossing if attention is not None)

    def __call__(
        self,
        tokens: jax.Array,
        encoder_tokens: jax.Array | None = None,
        *,
        segment_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        encoder_segment_ids: jax.Array | None = None,
        encoder_positions: jax.Array | None = None,
        cache: Any = None,
        return_losses: bool = False,
    ) -> Any:
        """Decoder hidden states after the final norm.

        Args:
          tokens: [B, L] decoder input ids. encoder_tokens: [B, S]; not needed with a cache.
          segment_ids, encoder_segment_ids: [B, L], [B, S]; decoder tokens see the encoder tokens of their own segment,
            0 is padding. None: one segment; give both or neither.
          positions, encoder_positions: for position encodings; None: 0, 1, 2, ...
          cache: a decoding.cache.KVCache that holds `crossed`; see Decoder.
          return_losses: without a cache, gives (hidden, losses) with the routers' losses [B], {} without experts.

        Returns:
          hidden [B, L, embed]; with a cache (hidden, the advanced cache).
        """
        length = tokens.shape[1]
        steps = jnp.arange(length, dtype=jnp.int32)
        encoder_BSD: jax.Array | None = None
        losses: Losses = {}
        if cache is None:
            assert encoder_tokens is not None, "encoder_tokens are needed without a cache"
            encoder_BSD, losses = self.encode(
                encoder_tokens, segment_ids=encoder_segment_ids, positions=encoder_positions
            )
            key_index, key_segments, sources = steps, segment_ids, encoder_tokens.shape[1]
        else:
            steps = steps + cache.index
            segment_ids = jnp.ones_like(tokens) if segment_ids is None else segment_ids
            key_index = jnp.arange(cache.segment_ids.shape[1], dtype=jnp.int32)
            key_segments = jax.lax.dynamic_update_slice(
                cache.segment_ids, segment_ids.astype(cache.segment_ids.dtype), (0, cache.index)
            )
            encoder_segment_ids, sources = cache.encoder_segment_ids, cache.encoder_segment_ids.shape[1]
        source_index = jnp.arange(sources, dtype=jnp.int32)
        places = steps[None] if positions is None else positions
        facts = AttentionFacts(
            sight=Sight(steps, key_index, segment_ids, key_segments),
            rotations=self.rotations(places),
            cache_index=None if cache is None else cache.index,
            encoder_BSD=encoder_BSD,
            cross_sight=Sight(steps, source_index, segment_ids, encoder_segment_ids),
        )
        caches, crossed = (None, None) if cache is None else (cache.layers, cache.crossed)
        x_BLD, layers, own = self.trunk(self.embedding.embed(tokens, places), facts, caches, crossed)
        hidden_BLD = self.finish(x_BLD)
        if cache is None:
            return (hidden_BLD, add_losses(losses, own)) if return_losses else hidden_BLD
        index = cache.index + length
        return hidden_BLD, dataclasses.replace(cache, layers=layers, segment_ids=key_segments, index=index)
