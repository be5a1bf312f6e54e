"""GLM (Du et al. 2022, and the released configurations), GLM-4-9B and GLM-4-0414 (Zeng et al. 2024)."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size of GLM; `length` is the longest sequence, each table of positions has one row more."""

    embed_dim: int
    layers: int
    heads: int
    length: int
    vocab_size: int


class Shape4(NamedTuple):
    """A published size of GLM-4."""

    embed_dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp_hidden: int
    vocab_size: int
    qkv_bias: bool = True


GLM = {
    "tiny": Shape(64, 2, 4, 128, 1024),
    "110m": Shape(768, 12, 12, 512, 30592),
    "335m": Shape(1024, 24, 16, 512, 30592),
    "410m": Shape(1024, 30, 16, 512, 30592),
    "515m": Shape(1152, 30, 18, 512, 30592),
    "2b": Shape(2048, 36, 32, 1024, 50304),
    "10b": Shape(4096, 48, 64, 1024, 50304),
    "10b-chinese": Shape(4096, 48, 64, 1024, 50048),
}
GLM4 = {
    "tiny": Shape4(64, 2, 4, 2, 16, 192, 1024),
    "9b": Shape4(4096, 40, 32, 2, 128, 13696, 151552),
}
GLM4_0414 = {**GLM4, "32b": Shape4(6144, 61, 48, 2, 128, 23040, 151552, qkv_bias=False)}


# Of the first GLM's released configurations; GLM-4's have none.
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, attention=0.1)


def glm(size: str = "335m", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """GLM: bidirectional context, then blocks to fill in, two learned positions a token; `size` is one of GLM.

    Args:
      vocab_size: None is the published one.
    """
    options.setdefault("dropout", DROPOUT)
    shape = choose(GLM, size, "glm")
    norm = parts.NormSpec("layernorm", 1e-5)
    layer = parts.LayerSpec(
        parts.AttentionSpec(
            heads=shape.heads,
            kv_heads=shape.heads,
            head_dim=shape.embed_dim // shape.heads,
            rope=None,
            qkv_bias=True,
            output_bias=True,
        ),
        parts.MlpSpec(4 * shape.embed_dim, "gelu_tanh", gated=False, bias=True),
        norm,
    )
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=norm,
        tied_embeddings=True,
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", shape.length + 1, blocks=True)),
        **options,
    )


def glm4(
    size: str = "9b", vocab_size: int | None = None, rope_base: float = 10000.0, **options: Unpack[Options]
) -> parts.DecoderConfig:
    """GLM-4-9B; `size` is one of GLM4.

    Args:
      vocab_size: None is the published one.
      rope_base: 10000 times the release's rope_ratio, which is 500 for the chat model of 131,072 tokens.
    """
    return _fourth(choose(GLM4, size, "glm4"), vocab_size, rope_base, False, options)


def glm4_0414(
    size: str = "9b", vocab_size: int | None = None, rope_base: float = 10000.0, **options: Unpack[Options]
) -> parts.DecoderConfig:
    """GLM-4-0414: GLM-4 with norms on both sides of a block; `size` is one of GLM4_0414. Arguments as glm4's."""
    return _fourth(choose(GLM4_0414, size, "glm4_0414"), vocab_size, rope_base, True, options)


def _fourth(
    shape: Shape4, vocab_size: int | None, rope_base: float, sandwich: bool, options: Options
) -> parts.DecoderConfig:
    norm = parts.NormSpec("rmsnorm", 1e-5 if sandwich else 1.5625e-7)
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        rope=parts.RopeSpec(rope_base, dim=shape.head_dim // 2, interleaved=True),
        qkv_bias=shape.qkv_bias,
    )
    layer = parts.LayerSpec(attention, parts.MlpSpec(shape.mlp_hidden), norm, "sandwich" if sandwich else "pre")
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=norm,
        **options,
    )
