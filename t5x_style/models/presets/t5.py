"""T5, T5 v1.1 (and Flan-T5) and mT5: encoder-decoders with a relative bias (Raffel et al. 2020, section 2.1).

Sizes: Raffel et al. 2020, section 3.7; v1.1 and Flan-T5 (Chung et al. 2022) as released; mT5 (Xue et al. 2021, table
1) is v1.1 over 250,112 ids. Scores are not scaled; T5's tied head is scaled by embed_dim ** -0.5 instead.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size; encoder and decoder have `layers` each."""

    embed_dim: int
    head_dim: int
    mlp_hidden: int
    layers: int
    heads: int
    vocab_size: int = 32128


T5 = {
    "tiny": Shape(64, 16, 192, 2, 4, 1024),
    "small": Shape(512, 64, 2048, 6, 8),
    "base": Shape(768, 64, 3072, 12, 12),
    "large": Shape(1024, 64, 4096, 24, 16),
    "3b": Shape(1024, 128, 16384, 24, 32),
    "11b": Shape(1024, 128, 65536, 24, 128),
}
V1_1 = {
    "tiny": Shape(64, 16, 128, 2, 4, 1024),
    "small": Shape(512, 64, 1024, 8, 6),
    "base": Shape(768, 64, 2048, 12, 12),
    "large": Shape(1024, 64, 2816, 24, 16),
    "xl": Shape(2048, 64, 5120, 24, 32),
    "xxl": Shape(4096, 64, 10240, 24, 64),
}


# Everywhere (section 3.1.1; places: section 2.1). T5 v1.1 and mT5 were
# pretrained without; the 0.1 of their files is for fine-tuning.
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, hidden=0.1, attention=0.1, final=0.1)


def t5(size: str = "small", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.EncoderDecoderConfig:
    """T5: plain ReLU feed-forward blocks, a tied head; `size` is one of T5. vocab_size: None is the published one."""
    options.setdefault("dropout", DROPOUT)
    shape = choose(T5, size, "t5")
    return encoder_decoder(shape, vocab_size, "relu", gated=False, tied=True, options=options)


def t5_v1_1(
    size: str = "small", vocab_size: int | None = None, **options: Unpack[Options]
) -> parts.EncoderDecoderConfig:
    """T5 v1.1 and Flan-T5: gated GELU, a head of its own; `size` is one of V1_1. vocab_size: None is as published."""
    shape = choose(V1_1, size, "t5_v1_1")
    return encoder_decoder(shape, vocab_size, "gelu_tanh", gated=True, tied=False, options=options)


def mt5(size: str = "small", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.EncoderDecoderConfig:
    """mT5: T5 v1.1 over a vocabulary of 101 languages; `size` is one of V1_1. vocab_size: None is the published one."""
    shape = choose(V1_1, size, "mt5")
    if vocab_size is None and size != "tiny":
        vocab_size = 250112
    return encoder_decoder(shape, vocab_size, "gelu_tanh", gated=True, tied=False, options=options)


def encoder_decoder(
    shape: Shape,
    vocab_size: int | None,
    activation: parts.Activation,
    gated: bool,
    tied: bool,
    options: Options,
) -> parts.EncoderDecoderConfig:
    """An encoder and a decoder of `shape`; a tied head is scaled by embed_dim ** -0.5."""
    norm = parts.NormSpec("rmsnorm", 1e-6)

    def attention(causal: bool) -> parts.AttentionSpec:
        return parts.AttentionSpec(shape.heads, shape.heads, shape.head_dim, causal=causal, rope=None, scale=1.0)

    def trunk(causal: bool) -> dict[str, Any]:
        mlp = parts.MlpSpec(shape.mlp_hidden, activation, gated=gated)
        layer = parts.LayerSpec(attention(causal), mlp, norm, cross_attention=attention(False) if causal else None)
        return {
            "vocab_size": shape.vocab_size if vocab_size is None else vocab_size,
            "embed_dim": shape.embed_dim,
            "segments": (parts.LayerGroup((layer,), shape.layers),),
            "final_norm": norm,
            "relative_bias": parts.RelativeBiasSpec(32, 128, bidirectional=not causal),
            **options,
        }

    head = parts.HeadSpec(scale=shape.embed_dim**-0.5 if tied else None)
    return parts.EncoderDecoderConfig(
        encoder=parts.EncoderConfig(**trunk(False)),
        decoder=parts.TransformerConfig(**trunk(True), tied_embeddings=tied, head=head),
    )
