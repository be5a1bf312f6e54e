"""What an objective is to the loader.

To add one: write a frozen dataclass with these members, see docs/training.md, "An objective of your own". Reading,
mixing, shuffling, shift, segment ids, positions, packing, counting and resuming come with the loader.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from t5x_style.data.batches import BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.errors import UserError


class Example(NamedTuple):
    """One example of a cache.

    Attributes:
      features: name -> int32 ids without EOS, numbers, or an array. record: its number in the source.
    """

    features: Mapping[str, np.ndarray]
    record: int


class Piece(NamedTuple):
    """What goes into one row whole.

    Attributes:
      fields: names of the spec's given fields -> arrays, one length per side. With `f"{side}_parts"`, the lengths of
        its parts on that side (all sides have the same number of parts), the piece is several segments of one row.
        Without any field it is no piece: it only says what was cut.
      raw: tokens of the cache that stand in it. cut: tokens of the cache that were left out for it.
    """

    fields: Mapping[str, np.ndarray]
    raw: int = 0
    cut: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective(abc.ABC):
    """Turns examples into pieces. Frozen and without I/O, so that gin can build it before anything else.

    Attributes:
      start_id: id that shifted fields start each segment with. None: the vocabulary's BOS, or its padding id where it
        has no BOS (T5's convention).
      group: so many examples of one source and one epoch are handed to `segments` together; the last group of an epoch
        may be shorter, or longer by up to least - 1. least: fewer are never handed over; a smaller source is refused.
      copies: random choices repeat after so many epochs (BERT's dupe factor); None: new in every epoch.
      draws: it draws at random; False hands it no generator, which is a little faster.
      joinable: its pieces may be joined to one segment a row (DataConfig.isolate=False).
    """

    group: ClassVar[int] = 1
    least: ClassVar[int] = 1
    copies: ClassVar[int | None] = None
    draws: ClassVar[bool] = True
    joinable: ClassVar[bool] = False

    start_id: int | None = None

    def __post_init__(self):
        if self.start_id is not None and self.start_id < 0:
            raise UserError(f"{type(self).__name__}.start_id is {self.start_id}, must be an id >= 0 or None")

    @property
    @abc.abstractmethod
    def features(self) -> tuple[str, ...]:
        """The features it reads; those that are ids must have the same vocabulary."""

    @property
    def kinds(self) -> Mapping[str, str]:
        """What features hold that are no token ids: "numbers" or "array" (data/manifest.py: Feature.kind)."""
        return {}

    @property
    def required(self) -> tuple[str, ...]:
        """Those of `features` that may not be empty: an example without them is skipped and counted."""
        return self.features

    @property
    @abc.abstractmethod
    def spec(self) -> BatchSpec:
        """The fields of its batches."""

    def lengths(self, length: int | Mapping[str, int]) -> dict[str, int]:
        """side -> row length, from DataConfig.length: a number for every side alike, or one for each.

        Raises:
          UserError: a side is missing or unknown.
        """
        sides = self.spec.sides
        if isinstance(length, int):
            return dict.fromkeys(sides, length)
        if set(length) != set(sides):
            raise UserError(
                f"DataConfig.length names {', '.join(length) or 'nothing'}; {type(self).__name__} has the sides "
                f"{', '.join(sides)}"
            )
        return {side: int(length[side]) for side in sides}

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:  # noqa: B027 (may be left as it is)
        """Raises UserError where rows of these lengths or this vocabulary cannot serve it; runs before any reading.

        Args:
          lengths: side -> row length. ids: of a source; what an older cache does not hold is empty or None.
        """

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        """Whether it may leave tokens out: then the kept tokens of a source are measured, else read from its manifest.

        Args:
          longest: feature -> a bound on its tokens that no example exceeds, None where nobody knows.
        """
        return True

    @abc.abstractmethod
    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        """Makes the pieces of a group; a generator, since the loader may stop within it and begin it again.

        Args:
          examples: of one source; EOS is the objective's affair (`ids.ended`).
          lengths: side -> row length, which no piece may exceed.
          ids: of the source.
          rng: equal for the same examples, epoch and DataConfig.seed, on every host and after a restart; only to be
            used before the generator ends.
        """
