"""Recurrent language models with the interface of Decoder (Zaremba et al. 2014)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models import randomness
from t5x_style.models.layers.embedding import Embedding, Head
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.recurrent import LayerState, RecurrentLayer
from t5x_style.models.specs import DEFAULT_EXECUTION, DtypePolicy, Execution
from t5x_style.models.specs.recurrent_config import RecurrentConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RecurrentCache:
    """What a recurrent model knows of the tokens so far; rows are the first axis of every array.

    Attributes:
      layers: the state of each layer. segment_ids: [B] int32, of the last token; 0 before the first.
    """

    layers: tuple[LayerState, ...]
    segment_ids: jax.Array


class RecurrentDecoder(nnx.Module):
    """Tokens to hidden states; `model.head.logits(hidden)` turns them into vocabulary scores."""

    def __init__(
        self, config: RecurrentConfig, *, policy: DtypePolicy, rngs: nnx.Rngs, execution: Execution = DEFAULT_EXECUTION
    ):
        size, width, stddev = config.padded_vocab_size, config.embed_dim, config.init.stddev
        drawn = {"policy": policy, "rngs": rngs}
        table_stddev = width**-0.5 if stddev is None else stddev
        self.config = config
        self.policy = policy
        self.execution = execution
        self.embedding = Embedding(size, width, stddev=table_stddev, **drawn)
        layers, inputs = [], width
        for hidden, given in zip(config.hidden_sizes, config.widths, strict=True):
            settings = {"stddev": stddev, "forget_bias": config.forget_bias, **drawn}
            layers.append(RecurrentLayer(config.cell, inputs, hidden, config.projection, **settings))
            inputs = given
        self.layers = nnx.List(layers)
        axes = ("mlp", "embed")
        self.projection = None if inputs == width else Linear((inputs,), (width,), axes=axes, stddev=stddev, **drawn)
        self.unembedding = None if config.tied_embeddings else Embedding(size, width, stddev=table_stddev, **drawn)
        bias = jnp.zeros((size,), policy.dtype("params")) if config.head.bias else None
        self.head_bias = None if bias is None else nnx.Param(bias, out_sharding=("vocab",))

    @property
    def head(self) -> Head:
        """The language-model head, over the embedding table when tied."""
        owner = self.embedding if self.unembedding is None else self.unembedding
        size = self.config.vocab_size
        return Head(self.config.head, table=owner.table, bias=self.head_bias, vocab_size=size, policy=self.policy)

    def empty_cache(self, batch: int, slots: int = 0) -> RecurrentCache:
        """The state before the first token; it takes the same room for any number of tokens, so `slots` is free."""
        del slots
        return RecurrentCache(tuple(layer.empty_state(batch) for layer in self.layers), jnp.zeros((batch,), jnp.int32))

    def __call__(
        self,
        tokens: jax.Array,
        *,
        segment_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        causal_attention: jax.Array | None = None,
        cache: RecurrentCache | None = None,
        return_losses: bool = False,
    ) -> Any:
        """Hidden states of the last layer.

        Args:
          tokens: [B, L] int ids.
          segment_ids: [B, L] int; the state is forgotten where they change, 0 is padding. None: one segment, with
            id 1 where there is a cache.
          positions: not used; the order of the tokens is all that a recurrence knows.
          causal_attention: must be None.
          cache: the state to go on from.
          return_losses: without a cache, gives (hidden, {}), as models without experts do.

        Returns:
          hidden [B, L, embed] in the compute dtype; with a cache (hidden, the advanced cache).

        Raises:
          UserError: causal_attention is given.
        """
        del positions
        if causal_attention is not None:
            raise UserError(
                "a recurrent model reads left to right and cannot look at a prefix in both directions; "
                "give no causal_attention, or train a Decoder"
            )
        start = self.empty_cache(tokens.shape[0]) if cache is None else cache
        reset_BL = None
        if segment_ids is not None or cache is not None:
            ids = jnp.ones_like(tokens) if segment_ids is None else segment_ids
            before = start.segment_ids[:, None].astype(ids.dtype)
            reset_BL = ids != jnp.concatenate([before, ids[:, :-1]], axis=1)
        dropout = self.config.dropout
        x_BLD = randomness.dropout(self.embedding(tokens), dropout.embedding, "embedding")
        states = []
        for number, (layer, state) in enumerate(zip(self.layers, start.layers, strict=True)):
            if number:
                with randomness.layer(number):
                    x_BLD = randomness.dropout(x_BLD, dropout.hidden, "feed-forward hidden")
            x_BLD, state = layer(x_BLD, reset_BL, state)
            states.append(state)
        x_BLD = randomness.dropout(x_BLD, dropout.final, "final")
        hidden_BLD = x_BLD if self.projection is None else self.projection(x_BLD)
        if cache is None:
            return (hidden_BLD, {}) if return_losses else hidden_BLD
        last_B = ids[:, -1].astype(cache.segment_ids.dtype)
        return hidden_BLD, RecurrentCache(tuple(states), last_B)
