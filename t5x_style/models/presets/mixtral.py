"""Mixtral: Mistral's layers with eight experts, two for a token (Jiang et al. 2024, table 1; 8x22B as released)."""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from t5x_style.models.presets.sizes import Options, arguments, choose


class Shape(NamedTuple):
    """A published size; `balance_weight` is the load-balance loss's in the released configuration."""

    embed_dim: int
    layers: int
    heads: int
    kv_heads: int
    mlp_hidden: int
    vocab_size: int
    balance_weight: float


SIZES = {
    "tiny": Shape(64, 2, 4, 2, 96, 1024, 0.02),
    "8x7b": Shape(4096, 32, 32, 8, 14336, 32000, 0.02),
    "8x22b": Shape(6144, 56, 48, 8, 16384, 32000, 0.001),
}


def mixtral(size: str = "8x7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Mixtral; `size` is one of SIZES. vocab_size: None is the published one."""
    shape = choose(SIZES, size, "mixtral")
    return llama(
        **arguments(shape, vocab_size),
        rope_base=1e6,
        experts=8,
        experts_per_token=2,
        **options,
    )
