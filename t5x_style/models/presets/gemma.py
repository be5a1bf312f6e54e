"""Gemma 2 and Gemma 3's text towers: sandwich norms, windows on most layers, soft caps or query and key norms.

Sizes: Gemma 2 (Riviere et al. 2024), table 1; Gemma 3 (Kamath et al. 2025), section 2, and the released configurations.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size.

    Scores are multiplied by query_scalar ** -0.5; `stretch` divides the rotary frequencies of layers without a window.
    """

    embed_dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_hidden: int
    vocab_size: int
    window: int
    query_scalar: int
    stretch: float | None = None


GEMMA2 = {
    "tiny": Shape(64, 4, 4, 2, 24, 192, 1024, 16, 24),
    "2b": Shape(2304, 26, 8, 4, 256, 9216, 256000, 4096, 256),
    "9b": Shape(3584, 42, 16, 8, 256, 14336, 256000, 4096, 256),
    "27b": Shape(4608, 46, 32, 16, 128, 36864, 256000, 4096, 144),
}
GEMMA3 = {
    "tiny": Shape(48, 13, 4, 1, 16, 128, 1024, 16, 16, 8.0),
    "270m": Shape(640, 18, 4, 1, 256, 2048, 262144, 512, 256),
    "1b": Shape(1152, 26, 4, 1, 256, 6912, 262144, 512, 256),
    "4b": Shape(2560, 34, 8, 4, 256, 10240, 262208, 1024, 256, 8.0),
    "12b": Shape(3840, 48, 16, 8, 256, 15360, 262208, 1024, 256, 8.0),
    "27b": Shape(5376, 62, 32, 16, 128, 21504, 262208, 1024, 168, 8.0),
}


def gemma2(size: str = "2b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Gemma 2: every other layer has a window; `size` is one of GEMMA2. vocab_size: None is the published one."""
    shape = choose(GEMMA2, size, "gemma2")
    rope, cap = parts.RopeSpec(1e4), 50.0
    narrow = _layer(shape, shape.window, rope, cap, qk_norm=False)
    wide = _layer(shape, None, rope, cap, qk_norm=False)
    segments = (parts.LayerGroup((narrow, wide), shape.layers // 2),)
    return _decoder(shape, vocab_size, segments, parts.HeadSpec(softcap=30.0), options)


def gemma3(size: str = "1b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Gemma 3's text tower: five layers of six have a window; `size` is one of GEMMA3.

    Args:
      vocab_size: None is the published one (the larger models have 64 ids more, for images).
    """
    shape = choose(GEMMA3, size, "gemma3")
    scaling = None if shape.stretch is None else parts.RopeScaling("linear", shape.stretch)
    narrow = _layer(shape, shape.window, parts.RopeSpec(1e4), None, qk_norm=True)
    wide = _layer(shape, None, parts.RopeSpec(1e6, scaling), None, qk_norm=True)
    whole, rest = divmod(shape.layers, 6)
    segments = [parts.LayerGroup((narrow,) * 5 + (wide,), whole)]
    if rest:
        segments.append(parts.LayerGroup((narrow,), rest))
    return _decoder(shape, vocab_size, tuple(segments), parts.HeadSpec(), options)


def _norm() -> parts.NormSpec:
    return parts.NormSpec("rmsnorm", 1e-6, scale_offset=1.0)


def _layer(shape: Shape, window: int | None, rope: parts.RopeSpec, cap: float | None, qk_norm: bool) -> parts.LayerSpec:
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        window=window,
        rope=rope,
        qk_norm=_norm() if qk_norm else None,
        logit_softcap=cap,
        scale=shape.query_scalar**-0.5,
    )
    return parts.LayerSpec(attention, parts.MlpSpec(shape.mlp_hidden, "gelu_tanh"), _norm(), placement="sandwich")


def _decoder(
    shape: Shape,
    vocab_size: int | None,
    segments: tuple[parts.LayerGroup, ...],
    head: parts.HeadSpec,
    options: Options,
) -> parts.DecoderConfig:
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=segments,
        final_norm=_norm(),
        tied_embeddings=True,
        embedding_scale=math.sqrt(shape.embed_dim),
        head=head,
        **options,
    )
