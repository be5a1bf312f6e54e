"""The key/value cache and the form of a model that decodes fast.

All rows of a batch write at the same slot; shorter prompts are padded on the left with segment 0, which no token sees.
So one update of a step is one contiguous write a layer, whatever the prompts' lengths.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.models.config import DecoderConfig, DtypePolicy
from t5x_style.models.decoder import Decoder
from t5x_style.models.layers.embedding import Embedding
from t5x_style.models.layers.linear import Linear
from t5x_style.models.stack import TrunkSegment, UnstackedSegment


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """Keys and values of every layer, never stacked (a stack would be sliced and written back at every step).

    Attributes:
      layers: (keys, values) a layer, each [B, slots, kv_heads, head_dim].
      segment_ids: [B, slots] int32, 0 where nothing is written or a row is padded.
      index: the next slot to write, int32 scalar.
    """

    layers: tuple[tuple[jax.Array, jax.Array], ...]
    segment_ids: jax.Array
    index: jax.Array


def empty(config: DecoderConfig, policy: DtypePolicy, batch: int, slots: int) -> KVCache:
    """A cache with room for `slots` tokens in each of `batch` rows, in the compute dtype."""
    dtype = policy.dtype("compute")
    layers = []
    for layer in config.layers:
        shape = (batch, slots, layer.attention.kv_heads, layer.attention.head_dim)
        layers.append((jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)))
    return KVCache(tuple(layers), jnp.zeros((batch, slots), jnp.int32), jnp.zeros((), jnp.int32))


def prepare(model: Decoder) -> Decoder:
    """The same model with every layer's weights as arrays of their own, matrices in the compute dtype; once, on load.

    Decoding on stacked weights copies each layer out of the stack at every token. A prepared model is returned as is.
    """
    if not any(isinstance(segment, TrunkSegment) for segment in model.trunk.segments):
        return model
    prepared = nnx.merge(*nnx.split(model))
    with nnx.use_eager_sharding(False):
        for _, module in nnx.iter_modules(prepared):
            if isinstance(module, (Linear, Embedding)):  # norms stay: they compute in the reductions dtype
                for parameter in vars(module).values():
                    if isinstance(parameter, nnx.Param):
                        # the module's own dtype: routers compute in float32 whatever the model does
                        dtype = module.policy.dtype("compute")
                        parameter.set_value(parameter.get_value().astype(dtype))
        prepared.trunk.segments = nnx.List([UnstackedSegment(segment) for segment in prepared.trunk.segments])
    return prepared
