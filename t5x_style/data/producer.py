"""Rows of the streams put together to batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data.batches import PAD
from t5x_style.data.data_config import DataConfig
from t5x_style.data.sources import SourceSet
from t5x_style.data.stream_plan import StreamPlan
from t5x_style.data.stream_state import ReadCounts, StreamState
from t5x_style.data.streams import RowStream
from t5x_style.errors import UserError

Batch = dict[str, np.ndarray]


class Produced(NamedTuple):
    """A batch with the position and the counts after it."""

    batch: Batch
    states: dict[int, StreamState]
    read: ReadCounts


class Producer:
    """Makes batches; used by one thread at a time."""

    def __init__(self, config: DataConfig, rows: Sequence[Sequence[int]], found: SourceSet, plan: StreamPlan):
        self._config, self._plan, self._parts = config, plan, found.parts
        self._wanted = [{row: index for index, row in enumerate(of_part)} for of_part in rows]
        self._padding = {field.name: plan.pad if field.padding == PAD else field.padding for field in plan.spec.fields}
        self._tokens = [field.name for field in plan.spec.fields if field.padding == PAD]
        self._size = 2**31 if found.vocabulary is None else found.vocabulary.size
        # A finite pass ends when all rows have ended, which every process must see at the same batch: so each packs
        # the whole of it and keeps its own rows.
        opened = set(range(plan.streams))
        if config.repeat:
            opened = {self._stream_of(row, part) for part, of_part in enumerate(rows) for row in of_part}
        self._streams = {index: RowStream(plan, index) for index in sorted(opened)}
        self._batches = 0

    def _stream_of(self, row: int, part: int) -> int:
        """The stream that a microbatch's row belongs to.

        Streams own consecutive rows, as devices do, so that a host opens streams / hosts of them and no more.
        """
        return row // (self._parts[part].batch_size // self._config.accumulation // self._plan.streams)

    def states(self) -> dict[int, StreamState]:
        return {index: stream.state for index, stream in self._streams.items()}

    def restore(self, states: dict[int, StreamState], batches: int) -> None:
        self._batches = batches
        for index, stream in self._streams.items():
            stream.restore(states[index])
            stream.counts = ReadCounts()

    def produce(self) -> Produced | None:
        """The next batch; None when no stream has a row left."""
        part = max(number for number, each in enumerate(self._parts) if each.step <= self._batches)
        for stream in self._streams.values():
            while stream.stage < part:
                stream.switch()
        rows = self._parts[part].batch_size // self._config.accumulation
        wanted = self._wanted[part]
        shapes = self._plan.spec.shapes(self._config.accumulation, len(wanted), self._parts[part].lengths)
        batch = {name: np.full(shape, self._padding[name], dtype) for name, (shape, dtype) in shapes.items()}
        filled = False
        each = rows // self._plan.streams if self._config.repeat else rows
        for micro in range(self._config.accumulation):
            for row in range(rows):
                owner = self._streams.get(row // each)
                values = None if owner is None else owner.next_row()
                filled |= values is not None
                if values is not None and row in wanted:
                    for name, value in values.items():
                        batch[name][micro, wanted[row]] = value
        self._batches += 1
        self._check_ids(batch)
        return Produced(batch, self.states(), self._read_counts()) if filled else None

    def _check_ids(self, batch: Batch) -> None:
        """That no objective wrote an id that the vocabulary does not have."""
        for name in self._tokens:
            least, most = int(batch[name].min()), int(batch[name].max())
            if least < 0 or most >= self._size:
                raise UserError(
                    f"an objective wrote {least if least < 0 else most} into {name}; ids lie in [0, {self._size})"
                )

    def _read_counts(self) -> ReadCounts:
        counts = [vars(stream.counts) for stream in self._streams.values()]
        return ReadCounts(**{name: sum(each[name] for each in counts) for name in counts[0]})
