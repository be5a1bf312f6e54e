"""What an objective is to the loader.

To add one: write a frozen dataclass with these members in a file of its own, and its `BatchSpec` in batches.py.
Everything else (EOS, shift, segment ids, positions, packing, mixing, resuming) comes with the loader.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from t5x_style.data.batches import BatchSpec
from t5x_style.errors import UserError


class Pieces(NamedTuple):
    """What one example became.

    segments: each maps names of role "given" in the spec to arrays of one length per side; a segment goes into one
    row whole. tokens_trimmed: tokens that were left out because the example was too long.
    """

    segments: list[dict[str, np.ndarray]]
    tokens_trimmed: int = 0


class FeatureLengths(NamedTuple):
    """Lengths of one feature over a source, EOS included.

    mean: average over all examples. longest: a bound no example exceeds, or None if unknown.
    """

    mean: float
    longest: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """Turns examples into segments. Frozen and without I/O, so that gin can build it before anything else.

    Attributes:
      start_id: id that decoder_input_tokens starts each segment with. None: the vocabulary's BOS, or its padding id
        where it has no BOS (T5's convention).
    """

    start_id: int | None = None

    def __post_init__(self):
        if self.start_id is not None and self.start_id < 0:
            raise UserError(f"{type(self).__name__}.start_id is {self.start_id}, must be an id >= 0 or None")

    @property
    @abc.abstractmethod
    def features(self) -> tuple[str, ...]:
        """The features it reads; all must have the same vocabulary."""

    @property
    @abc.abstractmethod
    def required(self) -> tuple[str, ...]:
        """Those of `features` that may not be empty: an example without them (EOS aside) is skipped and counted."""

    @property
    @abc.abstractmethod
    def spec(self) -> BatchSpec:
        """The fields of its batches."""

    def lengths(self, length: int) -> dict[str, int]:
        """side -> row length, from the configured decoder length."""
        return {"decoder": length}

    @abc.abstractmethod
    def segments(
        self, example: Mapping[str, np.ndarray], length: int, rng: Callable[[], np.random.Generator]
    ) -> Pieces:
        """Makes the segments of one example.

        Args:
          example: feature -> int32 ids, EOS appended where the Task wants one.
          length: the configured decoder length, which no segment may exceed.
          rng: makes the example's own generator, equal on every host and after a restart, new in every epoch.
        """

    @abc.abstractmethod
    def mean_tokens(self, lengths: Mapping[str, FeatureLengths], length: int) -> float | None:
        """Mean number of decoder tokens per example, exact; None where only measuring on examples can tell."""
