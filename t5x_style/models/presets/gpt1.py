"""GPT-1: post-norm decoder with learned positions (Radford et al. 2018, section 4.1)."""

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
    "117m": Shape(768, 12, 12, 512, 40478),
}


# On residuals, embedding and attention weights (section 4.1).
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, attention=0.1)


def gpt1(size: str = "117m", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """GPT-1; `size` is one of SIZES. vocab_size: None is the published one, 40,000 merges and 478 characters."""
    options.setdefault("dropout", DROPOUT)
    shape = choose(SIZES, size, "gpt1")
    norm = parts.NormSpec("layernorm", 1e-5)
    head_dim = shape.embed_dim // shape.heads
    layer = parts.LayerSpec(
        parts.AttentionSpec(shape.heads, shape.heads, head_dim, rope=None, qkv_bias=True, output_bias=True),
        parts.MlpSpec(4 * shape.embed_dim, "gelu_tanh", gated=False, bias=True),
        norm,
        placement="post",
    )
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=None,
        tied_embeddings=True,
        embedding=parts.EmbeddingSpec(positions=parts.PositionSpec("learned", shape.length)),
        **options,
    )
