"""Qwen2, Qwen2.5 and Qwen3 (dense): LLaMA's layers with biases on queries, keys and values, or with their norms.

Sizes: Qwen2 (Yang et al. 2024a), table 1; Qwen2.5 (Yang et al. 2024b), table 1; Qwen3 (Yang et al. 2025), table 1;
vocabularies and epsilons as released. The tables hold 151,646 to 151,669 ids in use and rows up to the given size.
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
    tied_embeddings: bool
    norm_epsilon: float = 1e-6


_SMALL, _LARGE = 151936, 152064

QWEN2 = {
    "tiny": Shape(64, 2, 4, 2, 192, 1024, True),
    "0.5b": Shape(896, 24, 14, 2, 4864, _SMALL, True),
    "1.5b": Shape(1536, 28, 12, 2, 8960, _SMALL, True),
    "7b": Shape(3584, 28, 28, 4, 18944, _LARGE, False),
    "72b": Shape(8192, 80, 64, 8, 29568, _LARGE, False, 1e-5),
}
QWEN2_5 = {
    "tiny": QWEN2["tiny"],
    "0.5b": QWEN2["0.5b"],
    "1.5b": QWEN2["1.5b"],
    "3b": Shape(2048, 36, 16, 2, 11008, _SMALL, True),
    "7b": QWEN2["7b"],
    "14b": Shape(5120, 48, 40, 8, 13824, _LARGE, False, 1e-5),
    "32b": Shape(5120, 64, 40, 8, 27648, _LARGE, False, 1e-5),
    "72b": QWEN2["72b"],
}
QWEN3 = {
    "tiny": Shape(64, 2, 4, 2, 192, 1024, True),
    "0.6b": Shape(1024, 28, 16, 8, 3072, _SMALL, True),
    "1.7b": Shape(2048, 28, 16, 8, 6144, _SMALL, True),
    "4b": Shape(2560, 36, 32, 8, 9728, _SMALL, True),
    "8b": Shape(4096, 36, 32, 8, 12288, _SMALL, False),
    "14b": Shape(5120, 40, 40, 8, 17408, _SMALL, False),
    "32b": Shape(5120, 64, 64, 8, 25600, _SMALL, False),
}


def qwen2(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Qwen2; `size` is one of QWEN2. vocab_size: None is the published one."""
    return _sized(choose(QWEN2, size, "qwen2"), vocab_size, None, options)


def qwen2_5(size: str = "7b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Qwen2.5; `size` is one of QWEN2_5. vocab_size: None is the published one."""
    return _sized(choose(QWEN2_5, size, "qwen2_5"), vocab_size, None, options)


def qwen3(size: str = "8b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.DecoderConfig:
    """Qwen3's dense models; `size` is one of QWEN3. vocab_size: None is the published one."""
    # Heads of 128 at every size, whatever the width.
    return _sized(choose(QWEN3, size, "qwen3"), vocab_size, 24 if size == "tiny" else 128, options)


def _sized(shape: Shape, vocab_size: int | None, head_dim: int | None, options: Options) -> parts.DecoderConfig:
    """Qwen2 without `head_dim`, Qwen3 with it."""
    return llama(
        **arguments(shape, vocab_size),
        head_dim=head_dim,
        rope_base=1e6,
        qkv_bias=head_dim is None,
        qk_norm=head_dim is not None,
        **options,
    )
