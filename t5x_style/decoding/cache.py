"""The key/value cache of decoders and encoder-decoders.

All rows of a batch write at the same slot; shorter prompts are padded on the left with segment 0, which no token sees.
So one update of a step is one contiguous write a layer, whatever the prompts' lengths.

A model with a state of another kind has a method `empty_cache(batch, slots)`. What it returns need only be a pytree
that the model's call takes as `cache` and gives back advanced, with rows as the first axis of every array that is no
scalar.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.models.layers.attention import LayerCache
from t5x_style.models.specs import DtypePolicy, TransformerConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, never stacked (a stack would be sliced and written back at every step).

    Attributes:
      layers: (keys, values) a layer, each [B, kv_heads, slots, head_dim]: heads before slots, so that no step has to
        transpose them.
      segment_ids: [B, slots] int32, 0 where nothing is written or a row is padded.
      index: the next slot to write, int32 scalar.
      crossed: (keys, values) a layer of the encoder's tokens, each [B, kv_heads, encoder tokens, head_dim], made once;
        None without an encoder.
      encoder_segment_ids: [B, encoder tokens] int32, 0 on padding; None without an encoder.
    """

    layers: tuple[LayerCache, ...]
    segment_ids: jax.Array
    index: jax.Array
    crossed: tuple[LayerCache, ...] | None = None
    encoder_segment_ids: jax.Array | None = None

    def take_rows(self, rows: jax.Array) -> KVCache:
        """The cache whose row i is row rows[i] of this one; the encoder's part stays as it is.

        For the beams of one prompt, which share an encoder input.
        """
        layers = jax.tree.map(lambda array: array[rows], self.layers)
        return dataclasses.replace(self, layers=layers, segment_ids=self.segment_ids[rows])


def empty(config: TransformerConfig, policy: DtypePolicy, batch: int, slots: int) -> KVCache:
    """A cache with room for `slots` tokens in each of `batch` rows, in the compute dtype."""
    dtype = policy.dtype("compute")
    layers = []
    for layer in config.layers:
        shape = (batch, layer.attention.kv_heads, slots, layer.attention.head_dim)
        layers.append((jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))
    return KVCache(tuple(layers), jnp.zeros((batch, slots), jnp.int32), jnp.zeros((), jnp.int32))


def begin(
    model: Any,
    batch: int,
    slots: int,
    encoder_tokens: jax.Array | None = None,
    encoder_segment_ids: jax.Array | None = None,
) -> Any:
    """The cache a generation starts from.

    Args:
      model: a Decoder, an EncoderDecoder, or a model with `empty_cache(batch, slots)`.
      encoder_tokens, encoder_segment_ids: [batch, S], only for an EncoderDecoder; the encoder runs here, once.
    """
    if hasattr(model, "empty_cache"):
        return model.empty_cache(batch, slots)
    cache = empty(model.config, model.policy, batch, slots)
    if encoder_tokens is None:
        return cache
    encoded, _ = model.encode(encoder_tokens, segment_ids=encoder_segment_ids)
    return dataclasses.replace(cache, crossed=model.cross(encoded), encoder_segment_ids=encoder_segment_ids)


def take_rows(cache: Any, rows: jax.Array) -> Any:
    """Row i of the result is row rows[i]; see KVCache.take_rows."""
    if isinstance(cache, KVCache):
        return cache.take_rows(rows)
    return jax.tree.map(lambda array: array[rows] if array.ndim else array, cache)


def repeat_rows(cache: Any, times: int) -> Any:
    """Every row `times` times, side by side: one for each beam."""
    return jax.tree.map(lambda array: jnp.repeat(array, times, axis=0) if array.ndim else array, cache)
