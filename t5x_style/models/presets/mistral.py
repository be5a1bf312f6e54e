"""Mistral 7B: LLaMA's layers, grouped queries, a sliding window in the first version (Jiang et al. 2023, table 1).

Versions 0.2 and 0.3 have no window and a rotary base of 1,000,000; 0.3 has 768 ids more.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from t5x_style.models.presets.sizes import Options, arguments, choose


class Shape(NamedTuple):
    """A published size."""

    embed_dim: int
    layers: int
    heads: int
    kv_heads: int
    mlp_hidden: int
    vocab_size: int
    window: int | None
    rope_base: float


SIZES = {
    "tiny": Shape(64, 2, 4, 1, 224, 1024, 16, 1e4),
    "7b-v0.1": Shape(4096, 32, 32, 8, 14336, 32000, 4096, 1e4),
    "7b-v0.2": Shape(4096, 32, 32, 8, 14336, 32000, None, 1e6),
    "7b-v0.3": Shape(4096, 32, 32, 8, 14336, 32768, None, 1e6),
}


def mistral(size: str = "7b-v0.1", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Mistral 7B; `size` is one of SIZES. vocab_size: None is the published one."""
    shape = choose(SIZES, size, "mistral")
    return llama(
        **arguments(shape, vocab_size),
        **options,
    )
