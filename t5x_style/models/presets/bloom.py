"""BLOOM: ALiBi and a norm on the embedding (Scao et al. 2022, table 3); BLOOMZ has the same shapes."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size; the vocabulary has 250,680 ids in use and rows up to the given size."""

    embed_dim: int
    layers: int
    heads: int
    vocab_size: int = 250880


SIZES = {
    "tiny": Shape(64, 2, 4, 1024),
    "560m": Shape(1024, 24, 16),
    "1b1": Shape(1536, 24, 16),
    "1b7": Shape(2048, 24, 16),
    "3b": Shape(2560, 30, 32),
    "7b1": Shape(4096, 30, 32),
    "176b": Shape(14336, 70, 112),
}


def bloom(size: str = "560m", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """BLOOM; `size` is one of SIZES. vocab_size: None is the published one."""
    shape = choose(SIZES, size, "bloom")
    norm = parts.NormSpec("layernorm", 1e-5)
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.embed_dim // shape.heads,
        rope=None,
        alibi=True,
        qkv_bias=True,
        output_bias=True,
    )
    mlp = parts.MlpSpec(4 * shape.embed_dim, "gelu_tanh", gated=False, bias=True)
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((parts.LayerSpec(attention, mlp, norm),), shape.layers),),
        final_norm=norm,
        tied_embeddings=True,
        embedding=parts.EmbeddingSpec(norm=norm),
        **options,
    )
