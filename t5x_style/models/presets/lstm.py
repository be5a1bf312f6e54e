"""LSTM language models of Zaremba et al. 2014, section 4.1: two layers, an untied head, 10,000 words.

Medium and large are regularised by dropout, small is not.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import choose
from t5x_style.models.specs.recurrent_config import RecurrentConfig


class Shape(NamedTuple):
    """A published size; weights start uniform in [-start, start]."""

    hidden: int
    layers: int
    start: float
    vocab_size: int = 10000


SIZES = {
    "tiny": Shape(64, 2, 0.1, 1024),
    "small": Shape(200, 2, 0.1),
    "medium": Shape(650, 2, 0.05),
    "large": Shape(1500, 2, 0.04),
}
_DROPPED = {"medium": 0.5, "large": 0.65}


def lstm(
    size: str = "small",
    vocab_size: int | None = None,
    cell: Literal["lstm", "gru", "rnn"] = "lstm",
    tied_embeddings: bool = False,
    vocab_multiple: int = 128,
    init: parts.InitSpec | None = None,
    dropout: parts.DropoutSpec | None = None,
) -> RecurrentConfig:
    """A recurrent language model; `size` is one of SIZES.

    Args:
      vocab_size: None is the published one.
      cell: GRU and tanh networks of the same widths have fewer parameters.
      tied_embeddings: the head uses the embedding table (Press and Wolf 2017), not so in the paper.
      dropout: None is the paper's: none for small, 50% for medium, 65% for large, on all but the recurrent connections.
      init: None draws with the standard deviation of the paper's uniform weights.

    Raises:
      UserError: an unknown size.
    """
    shape = choose(SIZES, size, "lstm")
    rate = _DROPPED.get(size, 0.0)
    return RecurrentConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.hidden,
        hidden_sizes=(shape.hidden,) * shape.layers,
        cell=cell,
        vocab_multiple=vocab_multiple,
        tied_embeddings=tied_embeddings,
        init=parts.InitSpec(shape.start / math.sqrt(3)) if init is None else init,
        dropout=parts.DropoutSpec(embedding=rate, hidden=rate, final=rate) if dropout is None else dropout,
    )
