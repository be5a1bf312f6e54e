"""Where a model drops numbers at random in training, and how many (Srivastava et al. 2014)."""

from __future__ import annotations

import dataclasses

from t5x_style.models.specs.checks import check


@dataclasses.dataclass(frozen=True)
class DropoutSpec:
    """The share that is set to 0 in training, place by place; what is left is divided by 1 - share.

    It acts only inside `models.randomness.rows`, which a training step enters: evaluation and decoding have none.
    A RecurrentConfig has embedding, hidden (between two layers) and final, never along time (Zaremba et al. 2014).

    Attributes:
      embedding: what goes into the first layer, with positions, token types and norm, before its projection.
      residual: what attention, cross-attention and feed-forward add to the residual.
      hidden: inside a feed-forward block, behind its activation (T5, XLNet); experts have none inside.
      attention: weights of keys, behind the softmax; needs all scores at once (Execution.attention "auto" or "xla").
      final: what comes out of the trunk, behind its last norm (T5, XLNet).
    """

    embedding: float = 0.0
    residual: float = 0.0
    hidden: float = 0.0
    attention: float = 0.0
    final: float = 0.0

    def __post_init__(self):
        for field in dataclasses.fields(self):
            rate = getattr(self, field.name)
            check(0.0 <= rate < 1.0, f"DropoutSpec.{field.name} is {rate}; give at least 0 and less than 1")


NO_DROPOUT = DropoutSpec()
