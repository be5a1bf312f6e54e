"""The configuration of recurrent language models: LSTM, GRU and plain tanh networks."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t5x_style.models.specs.architectures import HeadSpec, InitSpec
from t5x_style.models.specs.checks import check, choice
from t5x_style.models.specs.dropout import NO_DROPOUT, DropoutSpec

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """Token embedding, recurrent layers, head (Zaremba et al. 2014, section 3).

    Attributes:
      vocab_size, vocab_multiple: as TransformerConfig has them.
      embed_dim: columns of the token table and of the head. A last layer of another width is projected to it.
      hidden_sizes: cells of each layer, the first layer first.
      cell: "lstm" (Hochreiter and Schmidhuber 1997, with forget gates), "gru" (Cho et al. 2014, with the reset gate
        behind the product, as cuDNN and torch have it), "rnn" (Elman 1990: tanh).
      projection: width of what an LSTM layer gives to itself and to the next layer (Sak et al. 2014); None: its cells.
      tied_embeddings: the head uses the embedding table (Press and Wolf 2017, Merity et al. 2017, section 4.5).
      forget_bias: what the bias of an LSTM's forget gate starts with; 1 keeps the memory from fading early in
        training (Jozefowicz et al. 2015, section 3.1).
      dropout: embedding, hidden (between two layers) and final.
    """

    vocab_size: int
    embed_dim: int
    hidden_sizes: tuple[int, ...]
    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    projection: int | None = None
    vocab_multiple: int = 128
    tied_embeddings: bool = False
    forget_bias: float = 1.0
    head: HeadSpec = HeadSpec(bias=True)
    init: InitSpec = InitSpec()
    dropout: DropoutSpec = NO_DROPOUT

    def __post_init__(self):
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        for field in ("vocab_size", "embed_dim", "vocab_multiple"):
            check(getattr(self, field) >= 1, f"RecurrentConfig.{field} is {getattr(self, field)}; give at least 1")
        check(
            len(self.hidden_sizes) >= 1, "RecurrentConfig.hidden_sizes is empty; give the cells of at least one layer"
        )
        check(
            all(size >= 1 for size in self.hidden_sizes),
            f"RecurrentConfig.hidden_sizes is {self.hidden_sizes}; give at least 1 a layer",
        )
        choice(self.cell, tuple(GATES), "RecurrentConfig.cell")
        check(
            self.projection is None or self.projection >= 1,
            f"RecurrentConfig.projection is {self.projection}; give at least 1, or None",
        )
        check(self.projection is None or self.cell == "lstm", 'RecurrentConfig.projection needs cell "lstm"')
        check(
            self.dropout.residual == self.dropout.attention == 0,
            "RecurrentConfig.dropout: it has neither residual nor attention; give embedding, hidden and final",
        )
        check(self.head.transform is None, "RecurrentConfig.head: a transform is for masked-LM heads; leave it None")

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table: vocab_size rounded up to a multiple of vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def widths(self) -> tuple[int, ...]:
        """What each layer gives to the next one."""
        return tuple(size if self.projection is None else self.projection for size in self.hidden_sizes)

    @property
    def matrix_size(self) -> int:
        """Numbers in the matrices that every token meets: layers, projections and head."""
        total, inputs = self.padded_vocab_size * self.embed_dim, self.embed_dim
        for size, width in zip(self.hidden_sizes, self.widths, strict=True):
            total += GATES[self.cell] * size * (inputs + width)
            total += 0 if self.projection is None else size * width
            inputs = width
        return total + (0 if inputs == self.embed_dim else inputs * self.embed_dim)
