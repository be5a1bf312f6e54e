"""DataConfig: what a loader reads and how it lays it out. Building one reads nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from t5x_style.data.batches import Shapes
from t5x_style.data.objectives.objective import Objective
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """One data set as a stream of batches [accumulation, rows, length].

    Attributes:
      cache_dir: folder of token shards, `cache_tasks --output`. name: a Task or a Mixture in it. split: of each Task.
      objective: how examples become segments, e.g. CausalLM().
      batch_size: rows of one optimizer step, over all hosts: accumulation * rows of a microbatch.
      length: tokens of a decoder row. accumulation: microbatches of a step.
      packing: several segments share a row; otherwise each has its own.
      streams: row streams the batch is made of, fixed in the run: a divisor of the rows of a microbatch, and best a
        multiple of the data shards. A finite pass (repeat=False) has one, whatever this says.
      rates: every source's rate instead of mixture.json's, in `unit`; 0 leaves a source out. A finite pass reads
        every example of the sources with a rate once, in no proportion.
      unit: what rates count, "tokens" or "examples"; None is the mixture's own.
      seed: of shuffling and of the objective's random choices. shuffle: False keeps file order.
      repeat: endless, every epoch in another order; False is one pass, its last batch filled up with empty rows.
      prefetch: batches made ahead in a background thread; 0 makes each when asked.
    """

    cache_dir: str
    name: str
    objective: Objective
    batch_size: int
    length: int
    split: str = "train"
    accumulation: int = 1
    packing: bool = True
    streams: int = 8
    rates: Mapping[str, float] | None = None
    unit: str | None = None
    seed: int = 0
    shuffle: bool = True
    repeat: bool = True
    prefetch: int = 2

    def __post_init__(self):
        for name, least in (
            ("batch_size", 1), ("length", 2), ("accumulation", 1), ("streams", 1), ("prefetch", 0), ("seed", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"DataConfig.{name} is {value!r}, must be a whole number of at least {least}")
        for name in ("cache_dir", "name", "split"):
            if not getattr(self, name):
                raise UserError(f"DataConfig.{name} is empty")
        if not isinstance(self.objective, Objective):
            raise UserError(f"DataConfig.objective is {self.objective!r}, must be an objective such as @CausalLM()")
        if self.unit not in (None, "tokens", "examples"):
            raise UserError(f"DataConfig.unit is {self.unit!r}, must be 'tokens', 'examples' or None")
        for source, rate in (self.rates or {}).items():
            if not (isinstance(rate, (int, float)) and math.isfinite(rate) and rate >= 0):
                raise UserError(f"DataConfig.rates: the rate of {source!r} is {rate!r}, must be a number >= 0")
        if self.batch_size % self.accumulation:
            raise UserError(
                f"DataConfig.batch_size {self.batch_size} is not a multiple of accumulation {self.accumulation}"
            )
        if self.repeat and self.rows % self.streams:
            divisor = math.gcd(self.rows, self.streams)
            raise UserError(
                f"DataConfig: {self.rows} rows of a microbatch (batch_size {self.batch_size} / accumulation "
                f"{self.accumulation}) are not a multiple of streams={self.streams}; set streams to {divisor}, or "
                f"batch_size to a multiple of {self.streams * self.accumulation}"
            )

    @property
    def rows(self) -> int:
        """Rows of a microbatch, over all hosts."""
        return self.batch_size // self.accumulation

    @property
    def open_streams(self) -> int:
        """Row streams there are: `streams`, or one for a finite pass."""
        return self.streams if self.repeat else 1

    def stream_of(self, row: int) -> int:
        """The stream that a microbatch's row belongs to.

        Streams own consecutive rows, as devices do, so that a host opens streams / hosts of them and no more.
        """
        return row // (self.rows // self.open_streams)

    def batch_shapes(self, rows: Sequence[int] | None = None) -> Shapes:
        """field -> (shape, dtype) of the batches of a loader with these rows, before anything is opened."""
        count = self.rows if rows is None else len(rows)
        return self.objective.spec.shapes(self.accumulation, count, self.objective.lengths(self.length))
