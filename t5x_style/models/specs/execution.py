"""How a model runs, which is no part of what it is: it belongs to a run and never to model.json."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t5x_style.models.specs.checks import check, choice


@dataclasses.dataclass(frozen=True)
class Execution:
    """How a model runs; every choice gives the same numbers to rounding, so a run may be resumed with another one.

    A recurrent model has neither a stack of layers nor attention: only loss_chunk matters to it.

    Attributes:
      scan: one compiled layer run in a loop; False unrolls (faster to run on CPU, compile time grows with depth).
        Parameters are stacked either way.
      remat: what the backward pass recomputes, per layer: "none" keeps all, "dots" keeps matrix products, "full" keeps
        only the layer's input.
      attention: "blockwise" keeps no scores for the backward pass and skips what nobody sees (layers/blockwise.py);
        "xla" has all scores at once (layers/plain_attention.py); "auto" is blockwise wherever it can be.
      loss_chunk: tokens whose logits exist at a time on a device.
    """

    scan: bool = True
    remat: Literal["none", "full", "dots"] = "full"
    attention: Literal["auto", "blockwise", "xla"] = "auto"
    loss_chunk: int = 4096

    def __post_init__(self):
        choice(self.remat, ("none", "full", "dots"), "Execution.remat")
        choice(self.attention, ("auto", "blockwise", "xla"), "Execution.attention")
        check(self.loss_chunk >= 1, f"Execution.loss_chunk is {self.loss_chunk}; give at least 1")


DEFAULT_EXECUTION = Execution()
