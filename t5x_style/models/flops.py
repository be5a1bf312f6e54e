"""Floating-point operations of a training step, counted from the configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from t5x_style.models.specs import AttentionSpec, EncoderConfig, EncoderDecoderConfig, MoeSpec
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig


def flops_per_token(config: Any, length: int) -> float:
    """Floating-point operations of forward and backward for one token of a sequence of `length`.

    6 per matrix parameter (the vocabulary head's included where there is one, the embedding look-up not; task heads
    not, they see few tokens or few labels), and 12 * heads * head_dim * keys per layer for attention, keys being the
    length or the window (Chowdhery et al. 2022, appendix B: causal masks are not discounted, recomputation is not
    counted). XLNet: its content stream, whose scores by distance cost as much as those by content. An encoder-decoder:
    one decoder token and one encoder token, of `length` each.
    """
    if isinstance(config, EncoderDecoderConfig):
        return sum(flops_by_side(config, {"encoder": length, "decoder": length}).values())
    if isinstance(config, RecurrentConfig):
        return 6.0 * config.matrix_size
    total = 0.0 if config.head is None else 6.0 * config.padded_vocab_size * config.embed_dim
    for layer in config.layers:
        spec, width = layer.attention, config.embed_dim
        # of several experts only those that a token goes to count
        one, used = (layer.mlp.mlp, layer.mlp.top_k) if isinstance(layer.mlp, MoeSpec) else (layer.mlp, 1)
        mlp = used * width * one.hidden * (3 if one.gated else 2)
        total += _projections(width, spec.head_dim * (2 * spec.heads + 2 * spec.kv_heads)) + 6.0 * mlp
        total += _scores(spec, length if spec.window is None else min(length, spec.window))
        if isinstance(config, XLNetConfig):
            total += 6.0 * spec.heads * spec.head_dim * length
    return total


def flops_by_side(config: Any, lengths: Mapping[str, int]) -> dict[str, float]:
    """Operations of one token of each side of the batch, see `flops_per_token`.

    Of a cross-attention the encoder's tokens pay the keys and values, the decoder's all else.

    Args:
      lengths: side ("encoder", "decoder") -> length of its rows, of the sides that the model reads.

    Example: {"encoder": e, "decoder": d} of a T5; a step of n encoder and m decoder tokens takes n * e + m * d.
    """
    if not isinstance(config, EncoderDecoderConfig):
        side = "encoder" if isinstance(config, EncoderConfig) else "decoder"
        return {side: flops_per_token(config, lengths[side])}
    width = config.embed_dim
    encoder = dataclasses.replace(config.encoder, head=None, tied_embeddings=False)
    found = {
        "encoder": flops_per_token(encoder, lengths["encoder"]),
        "decoder": flops_per_token(config.decoder, lengths["decoder"]),
    }
    for layer in config.decoder.layers:
        spec = layer.cross_attention
        if spec is not None:
            found["encoder"] += _projections(width, spec.head_dim * 2 * spec.kv_heads)
            found["decoder"] += _projections(width, spec.head_dim * 2 * spec.heads) + _scores(spec, lengths["encoder"])
    return found


def _projections(width: int, columns: int) -> float:
    return 6.0 * width * columns


def _scores(spec: AttentionSpec, keys: int) -> float:
    return 12.0 * spec.heads * spec.head_dim * keys
