"""Causal language modelling (GPT, LLaMA): predict every token from those before it in the same segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from t5x_style.data.batches import CAUSAL_LM, BatchSpec
from t5x_style.data.objectives.objective import FeatureLengths, Objective, Pieces


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(Objective):
    """Every token is a target. A document longer than a row becomes consecutive segments; nothing is dropped.

    With length 4 the document [5, 6, 7, 8, 9, 1] gives the segments [5, 6, 7, 8] and [9, 1]; with start id 3 their
    decoder_input_tokens are [3, 5, 6, 7] and [3, 9].

    Attributes:
      feature: the feature that holds the document.
    """

    feature: str = "targets"

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def required(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return CAUSAL_LM

    def segments(
        self,
        example: Mapping[str, np.ndarray],
        length: int,
        rng: Callable[[], np.random.Generator],  # noqa: ARG002 (part of the interface)
    ) -> Pieces:
        tokens = example[self.feature]
        return Pieces(
            [{"decoder_target_tokens": tokens[start : start + length]} for start in range(0, len(tokens), length)]
        )

    def mean_tokens(self, lengths: Mapping[str, FeatureLengths], length: int) -> float | None:  # noqa: ARG002
        return lengths[self.feature].mean
