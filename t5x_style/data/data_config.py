"""DataConfig: what a loader reads and how it lays it out. Building one reads nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from t5x_style.data.batches import BatchSpec, Shapes
from t5x_style.data.objectives.objective import Objective
from t5x_style.errors import UserError

MOST_STREAMS = 16  # of the default: more pack in smaller shares of the data for no fuller rows


@dataclasses.dataclass(frozen=True)
class Source:
    """One source of a mixture with settings of its own.

    Attributes:
      weight: its share, in DataConfig.unit; 0 leaves it out.
      objective: None: the DataConfig's. All objectives of a mixture make the same fields.
      name: the Task or Mixture in the cache; None: what the mixture calls it. So one Task may be two sources.
      split, cache_dir: None: the DataConfig's.
    """

    weight: float
    objective: Objective | None = None
    name: str | None = None
    split: str | None = None
    cache_dir: str | None = None


Sources = Mapping[str, float | Source]


@dataclasses.dataclass(frozen=True)
class Stage:
    """A change at a step: what it leaves None stays as it was.

    Attributes:
      step: the first optimizer step, from 0, whose batch is made anew. Rows that were packed before are used up where
        they fit (docs/data_loading.md, "Stages").
      sources: the mixture from then on. length, batch_size: as in DataConfig.
    """

    step: int
    sources: Sources | None = None
    length: int | Mapping[str, int] | None = None
    batch_size: int | None = None

    def __post_init__(self):
        _whole(self, "step", 1)
        if self.batch_size is not None:
            _whole(self, "batch_size", 1)
        if self.sources is self.length is self.batch_size is None:
            raise UserError(f"Stage at step {self.step} changes nothing; give sources, length or batch_size")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """One data set as a stream of batches [accumulation, rows, length].

    Attributes:
      cache_dir: folder of token shards, `cache_tasks --output`.
      name: a Task or a Mixture in it; where `sources` are given, only what the data is called in messages.
      objective: how examples become pieces, e.g. CausalLM().
      batch_size: rows of one optimizer step, over all hosts: accumulation * rows of a microbatch.
      length: tokens of a row, of every side alike or by side: {"encoder": 512, "decoder": 114}.
      sources: name -> weight, or Source(weight, ...) with an objective of its own; None: `name` with its own rates.
      unit: what weights count, "tokens" (of the cache, kept) or "examples"; None: those of mixture.json count its own
        unit, `sources` count tokens.
      stages: changes at later steps, in order.
      split: of each Task. accumulation: microbatches of a step.
      packing: several pieces share a row; otherwise each has its own.
      isolate: the pieces of a row are segments of their own, which do not see each other; False makes a row one
        segment with running positions (GPT).
      streams: V, row streams the batch is made of, fixed in a run: a divisor of the rows of a microbatch, best a
        multiple of the data shards. None: the greatest up to 16, or a checkpoint's. A finite pass has one.
      seed: of shuffling and of the objective's random choices. shuffle: False keeps file order.
      repeat: endless, every epoch in another order; False is one pass over every example of every source, in no
        proportion, its last batch filled up with empty rows.
      prefetch: batches made ahead in a background thread; 0 makes each when asked.
    """

    cache_dir: str
    name: str
    objective: Objective | None = None
    batch_size: int = dataclasses.field(kw_only=True)
    length: int | Mapping[str, int] = dataclasses.field(kw_only=True)
    sources: Sources | None = None
    unit: str | None = None
    stages: Sequence[Stage] = ()
    split: str = "train"
    accumulation: int = 1
    packing: bool = True
    isolate: bool = True
    streams: int | None = None
    seed: int = 0
    shuffle: bool = True
    repeat: bool = True
    prefetch: int = 2

    def __post_init__(self):
        for name, least in (("batch_size", 1), ("accumulation", 1), ("prefetch", 0), ("seed", 0)):
            _whole(self, name, least)
        if self.streams is not None:
            _whole(self, "streams", 1)
        for name in ("cache_dir", "name", "split"):
            if not getattr(self, name):
                raise UserError(f"DataConfig.{name} is empty")
        if self.unit not in (None, "tokens", "examples"):
            raise UserError(f"DataConfig.unit is {self.unit!r}, must be 'tokens', 'examples' or None")
        _check_length(self.length, "DataConfig.length")
        objectives = self._check_sources(self.sources, "DataConfig.sources")
        self._check_stages(objectives)
        self._check_rows()

    def _check_sources(self, sources: Sources | None, where: str) -> list[Objective]:
        """Weights and objectives of a mixture; returns the objectives."""
        if sources is None:
            sources = {self.name: 1.0}
        if not isinstance(sources, Mapping) or not sources:
            raise UserError(f"{where} is {sources!r}, must be a mapping from name to weight or Source")
        found: list[Objective] = []
        for name, given in sources.items():
            if not isinstance(name, str) or not name:
                raise UserError(f"{where}: {name!r} is no name; sources are named by strings")
            source = given if isinstance(given, Source) else Source(given)
            weight = source.weight
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
                raise UserError(f"{where}: the weight of {name!r} is {weight!r}, must be a number >= 0")
            objective = self.objective if source.objective is None else source.objective
            if not isinstance(objective, Objective):
                what = "DataConfig.objective" if source.objective is None else f"{where}: the objective of {name!r}"
                raise UserError(f"{what} is {objective!r}, must be an objective such as @CausalLM()")
            found.append(objective)
        if not any((given.weight if isinstance(given, Source) else given) for given in sources.values()):
            raise UserError(f"{where}: no source has a weight above 0; nothing would be read")
        return found

    def _check_stages(self, objectives: list[Objective]) -> None:
        if not isinstance(self.stages, (list, tuple)):
            raise UserError(f"DataConfig.stages is {self.stages!r}, must be a list of Stage")
        if self.stages and not self.repeat:
            raise UserError(
                "DataConfig.stages goes with repeat=True: a finite pass has no steps to change at; in a run file bind "
                "train/DataConfig.stages, not the evaluation's"
            )
        before = 0
        for number, stage in enumerate(self.stages):
            if not isinstance(stage, Stage):
                raise UserError(f"DataConfig.stages[{number}] is {stage!r}, must be a Stage")
            if stage.step <= before:
                raise UserError(f"DataConfig.stages: step {stage.step} comes after step {before}; give them in order")
            before = stage.step
            where = f"the stage at step {stage.step}"
            if stage.length is not None:
                _check_length(stage.length, f"{where}: length")
            if stage.sources is not None:
                objectives = objectives + self._check_sources(stage.sources, f"{where}: sources")
        first = objectives[0]
        for objective in objectives:
            if not self.isolate and not objective.joinable:
                raise UserError(
                    f"DataConfig.isolate=False would let the pieces of {type(objective).__name__} see each other, "
                    "which it is not made for; leave it True"
                )
        for other in objectives[1:]:
            if other.spec != first.spec:
                raise UserError(
                    f"DataConfig: {type(first).__name__} and {type(other).__name__} make different fields; objectives "
                    "of one run make the same, so that every batch has one shape"
                )
            for part in self.parts:
                if first.lengths(part.length) != other.lengths(part.length):
                    raise UserError(
                        f"DataConfig.length {part.length} means rows of {_told(first.lengths(part.length))} to "
                        f"{type(first).__name__}, of {_told(other.lengths(part.length))} to {type(other).__name__}; "
                        "give a length by side, such as {'encoder': 512, 'decoder': 114}"
                    )
        for part in self.parts:
            first.lengths(part.length)

    def _check_rows(self) -> None:
        for part in self.parts:
            where = f"DataConfig{f' from step {part.step}' if part.step else ''}"
            if part.batch_size % self.accumulation:
                raise UserError(
                    f"{where}: batch_size {part.batch_size} is not a multiple of accumulation {self.accumulation}"
                )
            rows = part.batch_size // self.accumulation
            if self.repeat and self.streams is not None and rows % self.streams:
                raise UserError(
                    f"{where}: {rows} rows of a microbatch (batch_size {part.batch_size} / accumulation "
                    f"{self.accumulation}) are not a multiple of streams={self.streams}; leave streams unset, or set "
                    f"it to {math.gcd(rows, self.streams)}"
                )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The settings in force from each step on; the first begins at step 0."""
        found = [Part(0, self.sources, self.length, self.batch_size)]
        for stage in self.stages:
            last = found[-1]
            found.append(
                Part(
                    stage.step,
                    last.sources if stage.sources is None else stage.sources,
                    last.length if stage.length is None else stage.length,
                    last.batch_size if stage.batch_size is None else stage.batch_size,
                )
            )
        return tuple(found)

    @property
    def first_objective(self) -> Objective:
        """One of its objectives; all make the same fields of the same lengths."""
        for given in (self.sources or {}).values():
            if isinstance(given, Source) and given.objective is not None:
                return given.objective
            break
        assert self.objective is not None
        return self.objective

    @property
    def spec(self) -> BatchSpec:
        """The fields of its batches."""
        return self.first_objective.spec

    @property
    def lengths(self) -> dict[str, int]:
        """side -> row length, before the first stage."""
        return self.lengths_of(self.length)

    def lengths_of(self, length: int | Mapping[str, int]) -> dict[str, int]:
        """side -> row length that a length of this configuration means."""
        lengths = self.first_objective.lengths(length)
        return {side: lengths[side] for side in self.spec.sides}  # in the order of the spec, as packing counts

    @property
    def rows(self) -> int:
        """Rows of a microbatch, over all hosts, before the first stage."""
        return self.batch_size // self.accumulation

    @property
    def open_streams(self) -> int:
        """Row streams there are (see `streams`), where no checkpoint says otherwise."""
        if not self.repeat:
            return 1
        if self.streams is not None:
            return self.streams
        rows = math.gcd(*(part.batch_size // self.accumulation for part in self.parts))
        return max(divisor for divisor in range(1, MOST_STREAMS + 1) if rows % divisor == 0)

    def lengths_of_parts(self) -> list[dict[str, int]]:
        """The row lengths by side of every stage."""
        return [self.lengths_of(part.length) for part in self.parts]

    def batch_shapes(self, rows: Sequence[int] | None = None) -> Shapes:
        """field -> (shape, dtype) of the batches of a loader with these rows, before the first stage."""
        count = self.rows if rows is None else len(rows)
        return self.spec.shapes(self.accumulation, count, self.lengths)

    def batch_shapes_of_parts(self) -> tuple[Shapes, ...]:
        """The different shapes that its batches have over all stages, in order; all hosts' rows."""
        found: list[Shapes] = []
        for part in self.parts:
            rows = part.batch_size // self.accumulation
            shapes = self.spec.shapes(self.accumulation, rows, self.lengths_of(part.length))
            if shapes not in found:
                found.append(shapes)
        return tuple(found)


@dataclasses.dataclass(frozen=True)
class Part:
    """The settings in force from `step` on, see Stage."""

    step: int
    sources: Sources | None
    length: int | Mapping[str, int]
    batch_size: int


def _whole(config: object, name: str, least: int) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{type(config).__name__}.{name} is {value!r}, must be a whole number of at least {least}")


def _check_length(length: int | Mapping[str, int], where: str) -> None:
    if isinstance(length, Mapping) and not all(isinstance(side, str) for side in length):
        raise UserError(f"{where} is {length!r}; give a length by the name of each side")
    for value in length.values() if isinstance(length, Mapping) else (length,):
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise UserError(f"{where} is {length!r}; lengths are whole numbers of at least 2")


def _told(lengths: Mapping[str, int]) -> str:
    return ", ".join(f"{side} {length}" for side, length in lengths.items())
