"""UL2 20B and Flan-UL2: T5 v1.1 with gated SiLU (Tay et al. 2022, section 5.1)."""

from __future__ import annotations

from typing import Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose
from t5x_style.models.presets.t5 import Shape, encoder_decoder

SIZES = {
    "tiny": Shape(64, 32, 128, 2, 2, 1024),
    "20b": Shape(4096, 256, 16384, 32, 16),
}


def ul2(size: str = "20b", vocab_size: int | None = None, **options: Unpack[Options]) -> parts.EncoderDecoderConfig:
    """UL2; `size` is one of SIZES. vocab_size: None is the published one."""
    return encoder_decoder(choose(SIZES, size, "ul2"), vocab_size, "silu", gated=True, tied=False, options=options)
