"""Builds models from configurations, really or as shapes only, and counts their parameters and operations."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
from flax import nnx

from t5x_style.models.decoder import Decoder
from t5x_style.models.encoder import Encoder
from t5x_style.models.encoder_decoder import EncoderDecoder
from t5x_style.models.recurrent import RecurrentDecoder
from t5x_style.models.specs import (
    DEFAULT_EXECUTION,
    FLOAT32,
    AttentionSpec,
    DecoderConfig,
    DtypePolicy,
    EncoderConfig,
    EncoderDecoderConfig,
    Execution,
    MoeSpec,
)
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig
from t5x_style.models.xlnet import XLNet

_MODELS: dict[type, type] = {
    DecoderConfig: Decoder,
    EncoderConfig: Encoder,
    EncoderDecoderConfig: EncoderDecoder,
    XLNetConfig: XLNet,
    RecurrentConfig: RecurrentDecoder,
}


def build(
    config: Any, rngs: nnx.Rngs | int = 0, policy: DtypePolicy = FLOAT32, execution: Execution = DEFAULT_EXECUTION
) -> Any:
    """A model with drawn weights: a Decoder, Encoder or EncoderDecoder, as the configuration says.

    Args:
      rngs: an nnx.Rngs or a seed; the same seed gives the same weights. May be traced (for jitted, sharded init).
      execution: how it runs; `model.execution` on every kind of model.

    Raises:
      UserError: the model cannot run as `execution` says.
    """
    if not isinstance(rngs, nnx.Rngs):
        rngs = nnx.Rngs(rngs)
    # Variables must not be laid out as they are created: shardings come from mesh tables, for whole states.
    with nnx.use_eager_sharding(False):
        return _MODELS[type(config)](config, policy=policy, rngs=rngs, execution=execution)


def abstract(config: Any, policy: DtypePolicy = FLOAT32, execution: Execution = DEFAULT_EXECUTION) -> Any:
    """The model with ShapeDtypeStructs for arrays: no memory, no computation."""
    return nnx.eval_shape(lambda: build(config, 0, policy, execution))


def parameter_count(config: Any) -> int:
    """Number of trained parameters, the padded vocabulary included, tied tables once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(abstract(config), nnx.Param)))


def flops_per_token(config: Any, length: int) -> float:
    """Floating-point operations of forward and backward for one token of a sequence of `length`.

    6 per matrix parameter (the vocabulary head's included where there is one, the embedding look-up not; task heads
    not, they see few tokens or few labels), and 12 * heads * head_dim * keys per layer for attention, keys being the
    length or the window (Chowdhery et al. 2022, appendix B: causal masks are not discounted, recomputation is not
    counted). XLNet: its content stream, whose scores by distance cost as much as those by content. An encoder-decoder:
    one decoder token and one encoder token, of `length` each.
    """
    if isinstance(config, RecurrentConfig):
        return 6.0 * config.matrix_size
    if isinstance(config, EncoderDecoderConfig):
        encoder = dataclasses.replace(config.encoder, head=None, tied_embeddings=False)
        crossing = [layer.cross_attention for layer in config.decoder.layers if layer.cross_attention is not None]
        cross = sum(_attention_flops(spec, config.embed_dim, length) for spec in crossing)
        return flops_per_token(encoder, length) + flops_per_token(config.decoder, length) + cross
    total = 0.0 if config.head is None else 6.0 * config.padded_vocab_size * config.embed_dim
    for layer in config.layers:
        spec, width = layer.attention, config.embed_dim
        # of several experts only those that a token goes to count
        one, used = (layer.mlp.mlp, layer.mlp.top_k) if isinstance(layer.mlp, MoeSpec) else (layer.mlp, 1)
        mlp = used * width * one.hidden * (3 if one.gated else 2)
        total += _attention_flops(spec, width, length) + 6.0 * mlp
        if isinstance(config, XLNetConfig):
            total += 6.0 * spec.heads * spec.head_dim * length
    return total


def _attention_flops(spec: AttentionSpec, width: int, length: int) -> float:
    keys = length if spec.window is None else min(length, spec.window)
    projections = width * spec.head_dim * (2 * spec.heads + 2 * spec.kv_heads)
    return 6.0 * projections + 12.0 * spec.heads * spec.head_dim * keys
