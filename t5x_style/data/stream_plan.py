"""What all row streams of a loader share, the order of one stream's groups, and the randomness of a group."""

from __future__ import annotations

import bisect
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data.batches import BatchSpec
from t5x_style.data.objectives.objective import Objective
from t5x_style.data.order import Group, PassOrder, RateTree, SourceOrder, named_seed
from t5x_style.data.packing import Given
from t5x_style.data.reader import Reader
from t5x_style.data.sources import Use
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class PlannedPart:
    """A stage as streams see it.

    Attributes:
      uses: its sources. tree: how often each is read. lengths: side -> row length.
    """

    uses: tuple[Use, ...]
    tree: RateTree
    lengths: Mapping[str, int]

    @functools.cached_property
    def capacity(self) -> tuple[int, ...]:
        """The row lengths in the order of the sides."""
        return tuple(self.lengths.values())


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What all streams of a loader share.

    Attributes:
      parts: the stages. sources: order of every source by its number. one_pass: of a finite pass, else None.
      streams: V. reader: of the examples. spec: of the batches. pad: padding id.
      packing, isolate, seed, shuffle: as in DataConfig.
    """

    parts: Sequence[PlannedPart]
    sources: Sequence[SourceOrder]
    one_pass: PassOrder | None
    streams: int
    reader: Reader
    spec: BatchSpec
    pad: int
    packing: bool
    isolate: bool
    seed: int
    shuffle: bool

    @functools.cached_property
    def given(self) -> Given:
        """What objectives may give."""
        return Given.of(self.spec)

    @property
    def packed(self) -> bool:
        """Whether pieces share rows."""
        return self.packing and self.spec.packable


class GroupOrder:
    """number -> (use, records, epoch) of one stream's groups, over all stages that have begun in it."""

    def __init__(self, plan: StreamPlan, stream: int, switches: Sequence[int]):
        self._plan, self._stream = plan, stream
        self._starts = [0, *switches]
        self._phases = [part.tree.phases(plan.seed, stream, plan.streams) for part in plan.parts[: len(self._starts)]]
        self._before: dict[tuple[int, int], int] = {}

    def part_of(self, number: int) -> PlannedPart:
        """The stage that a group is of."""
        return self._plan.parts[self._stage(number)]

    def _stage(self, number: int) -> int:
        if number >= self._starts[-1]:
            return len(self._starts) - 1
        return bisect.bisect_right(self._starts, number) - 1

    def __getitem__(self, number: int) -> tuple[Use, Group]:
        plan = self._plan
        if plan.one_pass is not None:
            group = plan.one_pass[number * plan.streams + self._stream]
            return plan.parts[0].uses[group.source], group
        stage = self._stage(number)
        part = plan.parts[stage]
        place_, before = part.tree.locate(number - self._starts[stage], self._phases[stage])
        use = part.uses[place_]
        if stage:
            before += self._read_before(stage, use.source)
        records, epoch = plan.sources[use.source][before * plan.streams + self._stream]
        return use, Group(use.source, records, epoch)

    def _read_before(self, stage: int, source: int) -> int:
        """Groups of a source that this stream had read when a stage began."""
        known = self._before.get((stage, source))
        if known is None:
            known = self._before[stage, source] = sum(
                self._plan.parts[index].tree.count(place_, end - start, self._phases[index])
                for index, (start, end) in enumerate(zip(self._starts[:stage], self._starts[1 : stage + 1]))
                for place_, use in enumerate(self._plan.parts[index].uses)
                if use.source == source
            )
        return known


class Randomness:
    """Generators keyed by what they are for: the seed, the source, the first record, the epoch.

    Making a generator takes 20 us, setting the state of an old one 1.5 us; so they are used again.
    """

    def __init__(self, seed: int):
        self._seed = seed
        self._sources: dict[str, int] = {}
        self._fresh = np.random.Philox(key=0).state
        self._free: list[np.random.Generator] = []

    def of(self, source: str, group: Group, objective: Objective) -> np.random.Generator:
        """The generator of a group; not to be used any more once it was given back."""
        if not objective.draws:
            return _NO_DRAWS
        copies = objective.copies
        if source not in self._sources:
            first, second = (named_seed(self._seed, "segments", source, half) for half in (0, 1))
            self._sources[source] = first << 31 | second
        rng = self._free.pop() if self._free else np.random.Generator(np.random.Philox(key=0))
        epoch = group.epoch if copies is None else group.epoch % copies
        state = self._fresh
        key, counter = state["state"]["key"], state["state"]["counter"]
        key[0], key[1], counter[3] = self._sources[source], group.records[0], epoch
        rng.bit_generator.state = state
        return rng

    def give_back(self, rng: np.random.Generator) -> None:
        """Says that a group's pieces are all made."""
        if rng is not _NO_DRAWS:
            self._free.append(rng)


class _NoDraws:
    """What an objective gets that says it does not draw."""

    def __getattr__(self, name: str) -> Any:
        raise UserError(f"it says draws = False and asks its generator for {name}; set draws = True in its class")


_NO_DRAWS: Any = _NoDraws()
