"""GPT-2: pre-norm LayerNorm decoder with learned positions (Radford et al. 2019, table 2).

The paper's table counts 117M, 345M, 762M and 1542M; the released weights have the counts of the names here.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size; `length` is the number of learned positions."""

    embed_dim: int
    layers: int
    heads: int
    length: int
    vocab_size: int


SIZES = {
    "tiny": Shape(64, 2, 4, 128, 1024),
    "124m": Shape(768, 12, 12, 1024, 50257),
    "355m": Shape(1024, 24, 16, 1024, 50257),
    "774m": Shape(1280, 36, 20, 1024, 50257),
    "1.5b": Shape(1600, 48, 25, 1024, 50257),
}


# Of the released configurations, as GPT-1's; the paper does not speak of it.
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, attention=0.1)


def gpt2(size: str = "124m", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """GPT-2; `size` is one of SIZES. vocab_size: None is the published one."""
    options.setdefault("dropout", DROPOUT)
    shape = choose(SIZES, size, "gpt2")
    layer = dense_layer(shape.embed_dim, shape.heads, shape.embed_dim // shape.heads)
    segments = (parts.LayerGroup((layer,), shape.layers),)
    vocab_size = shape.vocab_size if vocab_size is None else vocab_size
    return decoder(vocab_size, shape.embed_dim, segments, shape.length, options)


def dense_layer(
    embed_dim: int,
    heads: int,
    head_dim: int,
    window: int | None = None,
    qkv_bias: bool = True,
    scale: float | None = None,
) -> parts.LayerSpec:
    """A layer of GPT-2, and of GPT-3 and GPT-Neo; scale: of the scores, None is head_dim ** -0.5."""
    attention = parts.AttentionSpec(
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        window=window,
        rope=None,
        qkv_bias=qkv_bias,
        output_bias=True,
        scale=head_dim**-0.5 if scale is None else scale,
    )
    mlp = parts.MlpSpec(4 * embed_dim, "gelu_tanh", gated=False, bias=True)
    return parts.LayerSpec(attention, mlp, parts.NormSpec("layernorm", 1e-5))


def decoder(
    vocab_size: int, embed_dim: int, segments: tuple[parts.LayerGroup, ...], length: int, options: Options
) -> parts.DecoderConfig:
    """The decoder around such layers: `length` learned positions, a final norm, a tied head."""
    return parts.DecoderConfig(
        vocab_size=vocab_size,
        embed_dim=embed_dim,
        segments=segments,
        final_norm=parts.NormSpec("layernorm", 1e-5),
        tied_embeddings=True,
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", length)),
        **options,
    )
