"""XLNet as a model that continues tokens: the query stream predicts each new one from all before it.

A step reads the last two tokens and a place for the next one, which nobody sees, beside the memory of everything
before. So a token is remembered once the token after it is known, and never looks at what comes later still, as a
whole reading of the text would let it. This is how transformers generates with XLNet's memories.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers.embedding import Head
from t5x_style.models.specs.xlnet_config import XLNetConfig
from t5x_style.models.xlnet import UNUSED, Memories, XLNet

# Of memory_length, transformers' generation drops these after it has cut the memory: the last token, read again in the
# next step, and the place that was predicted.
_READ_AGAIN = 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ContinuationCache:
    """What is known of a text; rows are the first axis of every array.

    Attributes:
      hidden: [B, layers, M, D], the memories of all tokens but the last, newest last. memory_segments: [B, M] theirs.
      last: [B] the last token. last_segment: [B] its segment, -1 before the first.
    """

    hidden: jax.Array
    memory_segments: jax.Array
    last: jax.Array
    last_segment: jax.Array


class Continuation(nnx.Module):
    """An XLNet behind the interface that `generate` wants; `generate` makes it itself."""

    def __init__(self, model: XLNet):
        """Raises UserError where half of a batch would run backwards (bidirectional_data)."""
        if model.config.bidirectional_data:
            raise UserError("generate: XLNetConfig.bidirectional_data is for pretraining; set it to False (bi_data)")
        self.model = model
        self.policy = model.policy

    @property
    def config(self) -> XLNetConfig:
        """The model's."""
        return self.model.config

    @property
    def head(self) -> Head:
        """The model's."""
        return self.model.head

    def empty_cache(self, batch: int, slots: int) -> ContinuationCache:
        """Memory for `slots` tokens, or for those that the model's memory_length leaves."""
        length = self.config.memory_length
        room = slots if length is None else min(slots, max(length - _READ_AGAIN, 0))
        memories = self.model.empty_memories(batch, room)
        last = jnp.zeros((batch,), jnp.int32)
        return ContinuationCache(
            jnp.moveaxis(memories.hidden, 1, 0), memories.segment_ids, last, jnp.full((batch,), UNUSED, jnp.int32)
        )

    def __call__(
        self,
        tokens: jax.Array,
        *,
        cache: ContinuationCache,
        segment_ids: jax.Array | None = None,
        positions: jax.Array | None = None,
        causal_attention: jax.Array | None = None,
    ) -> tuple[jax.Array, ContinuationCache]:
        """(the state that predicts the token after `tokens`, the advanced cache).

        Worked example, tokens [7, 8, 9] after a cache whose last token is 6: the model reads [6, 7, 8, 9, 0], where
        nobody sees the 0, predicts its place, and remembers 6, 7 and 8; 9 is the new cache's last token.

        Args:
          tokens: [B, L] int ids. segment_ids: [B, L], 0 is padding on the left; None: 1. positions: not used.
          causal_attention: must be None; whatever is read at once sees each other anyway, unless the model is causal.

        Returns:
          ([B, 1, embed], cache).
        """
        del positions
        if causal_attention is not None:
            raise UserError("generate: XLNet takes no bidirectional_prompts; its attention type decides")
        segments = jnp.ones_like(tokens) if segment_ids is None else segment_ids
        place = segments[:, -1:]
        read = jnp.concatenate([cache.last[:, None], tokens, jnp.zeros_like(place)], axis=1)
        read_segments = jnp.concatenate([cache.last_segment[:, None], segments, place], axis=1)
        batch, length = read.shape
        is_place = jnp.arange(length) == length - 1
        hidden, memories = self.model.read(
            read,
            segment_ids=read_segments,
            permutation_mask=jnp.broadcast_to(is_place, (batch, length, length)),
            target_mapping=jnp.broadcast_to(is_place, (batch, 1, length)).astype(jnp.float32),
            memories=Memories(jnp.moveaxis(cache.hidden, 0, 1), cache.memory_segments),
            keep=length - _READ_AGAIN,
            limit=cache.memory_segments.shape[1],
        )
        assert memories is not None
        return hidden, ContinuationCache(
            jnp.moveaxis(memories.hidden, 1, 0), memories.segment_ids, tokens[:, -1], segments[:, -1].astype(jnp.int32)
        )


def continued(model: Any) -> Any:
    """A Continuation of an XLNet; other models as they are."""
    return Continuation(model) if isinstance(model, XLNet) else model
