"""Baichuan 1 and Baichuan 2 (Yang et al. 2023, tables 2 and 3, and the released configurations).

7B: rotary positions; 13B: ALiBi. Baichuan 2 has twice the vocabulary and a head of normalised rows.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size; alibi: instead of rotary positions."""

    embed_dim: int
    layers: int
    heads: int
    mlp_hidden: int
    vocab_size: int
    alibi: bool = False


BAICHUAN = {
    "tiny": Shape(60, 2, 5, 160, 1024, alibi=True),
    "7b": Shape(4096, 32, 32, 11008, 64000),
    "13b": Shape(5120, 40, 40, 13696, 64000, alibi=True),
}
BAICHUAN2 = {
    "tiny": Shape(64, 2, 4, 160, 1024),
    "7b": Shape(4096, 32, 32, 11008, 125696),
    "13b": Shape(5120, 40, 40, 13696, 125696, alibi=True),
}


def baichuan(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Baichuan 1; `size` is one of BAICHUAN. vocab_size: None is the published one."""
    return _decoder(choose(BAICHUAN, size, "baichuan"), vocab_size, parts.HeadSpec(), options)


def baichuan2(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Baichuan 2; `size` is one of BAICHUAN2. vocab_size: None is the published one."""
    return _decoder(choose(BAICHUAN2, size, "baichuan2"), vocab_size, parts.HeadSpec(normalized=True), options)


def _decoder(shape: Shape, vocab_size: int | None, head: parts.HeadSpec, options: Options) -> parts.DecoderConfig:
    norm = parts.NormSpec("rmsnorm", 1e-6)
    attention = parts.AttentionSpec(
        heads=shape.heads,
        kv_heads=shape.heads,
        head_dim=shape.embed_dim // shape.heads,
        rope=None if shape.alibi else parts.RopeSpec(),
        alibi=shape.alibi,
    )
    layer = parts.LayerSpec(attention, parts.MlpSpec(shape.mlp_hidden), norm)
    return parts.DecoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=norm,
        head=head,
        **options,
    )
