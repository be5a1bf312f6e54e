"""GPT-3 (Brown et al. 2020, section 2.1) and GPT-Neo: GPT-2's layers, dense and locally banded ones by turns.

Banded means that a query sees itself and the positions right before it (the local half of Child et al. 2019). The paper
does not say how many; GPT-Neo, its open remake (Black et al. 2021), has 256, which is the default here.

Two rows of the paper's table 2.1 do not fit their own parameter counts: XL has 24 heads of 128 over a width of 2048
(16 heads give the 1.3B of its name), 13B has a width of 5140 beside 40 heads of 128 (which is 5120). The presets have
16 heads and 5120.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets import gpt2
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size."""

    embed_dim: int
    layers: int
    heads: int
    head_dim: int


GPT3 = {
    "tiny": Shape(64, 4, 4, 16),
    "125m": Shape(768, 12, 12, 64),
    "350m": Shape(1024, 24, 16, 64),
    "760m": Shape(1536, 24, 16, 96),
    "1.3b": Shape(2048, 24, 16, 128),
    "2.7b": Shape(2560, 32, 32, 80),
    "6.7b": Shape(4096, 32, 32, 128),
    "13b": Shape(5120, 40, 40, 128),
    "175b": Shape(12288, 96, 96, 128),
}
GPT_NEO = {
    "tiny": Shape(64, 4, 4, 16),
    "125m": Shape(768, 12, 12, 64),
    "1.3b": Shape(2048, 24, 16, 128),
    "2.7b": Shape(2560, 32, 20, 128),
}


def gpt3(
    size: str = "125m", vocab_size: int | None = None, window: int | None = None, **options: Unpack[Options]
) -> parts.DecoderConfig:
    """GPT-3; `size` is one of GPT3. No dropout: the paper publishes none.

    Args:
      vocab_size: None is the published one.
      window: of the banded layers, which are the second, the fourth, ...; None is 256, 16 for tiny.
    """
    shape = choose(GPT3, size, "gpt3")
    return _alternating(shape, vocab_size, _window(size, window), options, qkv_bias=True, scale=None)


def gpt_neo(
    size: str = "125m", vocab_size: int | None = None, window: int | None = None, **options: Unpack[Options]
) -> parts.DecoderConfig:
    """GPT-Neo: GPT-3 without biases on queries, keys and values, and scores that are not scaled.

    Args:
      size: one of GPT_NEO. vocab_size: None is the published one. window: see gpt3.
    """
    shape = choose(GPT_NEO, size, "gpt_neo")
    return _alternating(shape, vocab_size, _window(size, window), options, qkv_bias=False, scale=1.0)


def _window(size: str, window: int | None) -> int:
    if window is not None:
        return window
    return 16 if size == "tiny" else 256


def _alternating(
    shape: Shape, vocab_size: int | None, window: int, options: Options, qkv_bias: bool, scale: float | None
) -> parts.DecoderConfig:
    dense, banded = (
        gpt2.dense_layer(shape.embed_dim, shape.heads, shape.head_dim, each, qkv_bias, scale) for each in (None, window)
    )
    tiny = shape.embed_dim == 64
    return gpt2.decoder(
        vocab_size=vocab_size if vocab_size is not None else 1024 if tiny else 50257,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((dense, banded), shape.layers // 2),),
        length=128 if tiny else 2048,
        options=options,
    )
