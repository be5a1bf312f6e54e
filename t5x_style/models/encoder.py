"""The encoder: every token sees its whole segment; heads for masked tokens, sentences, tags and spans sit on top."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.models.decoder import Transformer
from t5x_style.models.layers.attention import AttentionFacts
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.masks import Sight
from t5x_style.models.specs import DEFAULT_EXECUTION, DtypePolicy, EncoderConfig, Execution


class Encoder(Transformer):
    """Tokens to hidden states; `model.head.logits(hidden)` are the masked-LM scores."""

    config: EncoderConfig

    def __init__(
        self, config: EncoderConfig, *, policy: DtypePolicy, rngs: nnx.Rngs, execution: Execution = DEFAULT_EXECUTION
    ):
        super().__init__(config, policy=policy, rngs=rngs, execution=execution)
        width = config.embed_dim
        dense = {"axes": ("embed", None), "policy": policy, "rngs": rngs, "stddev": config.init.stddev}
        self.pooler = Linear((width,), (width,), bias=True, **dense) if config.pooler else None

    def __call__(
        self,
        tokens: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        token_types: jax.Array | None = None,
        return_losses: bool = False,
    ) -> Any:
        """Hidden states [B, L, embed] after the final norm, in the compute dtype.

        Args:
          tokens: [B, L] int ids.
          segment_ids: [B, L] int; tokens see only their own segment, 0 is padding. None: one segment.
          positions: [B, L] int. None: 0, 1, 2, ...
          token_types: [B, L] int, None: all 0; only for models with token types.
          return_losses: gives (hidden, losses) with the routers' losses [B], {} without experts.
        """
        steps = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        places = steps[None] if positions is None else positions
        facts = AttentionFacts(sight=Sight(steps, steps, segment_ids, segment_ids), rotations=self.rotations(places))
        x_BLD = self.embedding.embed(tokens, places, token_types)
        x_BLD, _, losses = self.trunk(x_BLD, facts)
        hidden_BLD = self.finish(x_BLD)
        return (hidden_BLD, losses) if return_losses else hidden_BLD

    def pooled(self, hidden_BLD: jax.Array) -> jax.Array:
        """[B, L, embed] -> [B, embed]: the first position, through the pooler where there is one."""
        first_BD = hidden_BLD[:, 0]
        return first_BD if self.pooler is None else jnp.tanh(self.pooler(first_BD))
