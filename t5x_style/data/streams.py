"""A row stream: the examples v, v + V, v + 2V, ... of the order, packed into an endless or finite run of rows.

A stream works in windows of rows. Its state is where the window began, which segments were left over from the window
before, and how many rows of the window were handed out; setting it packs the same window again from the shards.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from t5x_style.data.mixing import ExampleOrder, named_seed
from t5x_style.data.objectives.objective import Objective
from t5x_style.data.packing import Placed, Rows, SpecialIds, assemble_rows, assign_rows, segment_lengths
from t5x_style.data.sources import Reader

# Rows packed together. More rows waste less and look further ahead; padding measured in docs/data_loading.md.
ROWS_PER_WINDOW = 32
_READ_AHEAD = 64  # examples per call of the reader


class Cursor(NamedTuple):
    """A segment's name: the number of its example within the stream, and the segment's number within the example."""

    example: int
    segment: int


@dataclasses.dataclass(frozen=True)
class StreamState:
    """Position of a stream. The first two fields and `carried` describe the beginning of the current window.

    Attributes:
      window: windows before this one.
      next: the first segment not yet read then.
      carried: segments that the window before had read and found no room for.
      row: rows of this window already handed out.
    """

    window: int = 0
    next: Cursor = Cursor(0, 0)
    carried: tuple[Cursor, ...] = ()
    row: int = 0

    def to_json(self) -> list[Any]:
        """[window, example, segment, row, [[example, segment], ...]]."""
        return [self.window, *self.next, self.row, [list(cursor) for cursor in self.carried]]

    @classmethod
    def from_json(cls, value: list[Any]) -> StreamState:
        """The inverse of `to_json`."""
        window, example, segment, row, carried = value
        return cls(window, Cursor(example, segment), tuple(Cursor(*cursor) for cursor in carried), row)


@dataclasses.dataclass
class ReadCounts:
    """What a stream has read, up to one window ahead of what it has handed out.

    examples, segments: read and made. empty: skipped, since a required feature has no token. split: became several
    segments. trimmed, tokens_trimmed: examples too long for their row, and the tokens they lost.
    """

    examples: int = 0
    segments: int = 0
    empty: int = 0
    split: int = 0
    trimmed: int = 0
    tokens_trimmed: int = 0


@dataclasses.dataclass(frozen=True)
class StreamPlan:
    """What all streams of a loader share.

    Attributes:
      order: place -> (source, record). streams: V.
      reader: of the examples. objective, length, packing, seed, shuffle: as in DataConfig.
      ids: padding and start id.
    """

    order: ExampleOrder
    streams: int
    reader: Reader
    objective: Objective
    length: int
    packing: bool
    seed: int
    shuffle: bool
    ids: SpecialIds

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """side -> row length."""
        return self.objective.lengths(self.length)


class _Pending(NamedTuple):
    """A segment read and not yet in a row."""

    cursor: Cursor
    placed: Placed
    sizes: list[int]  # by side


class RowStream:
    """Stream `index` of a plan. `next_row` gives rows until it gives None; `state` and `restore` are exact."""

    def __init__(self, plan: StreamPlan, index: int):
        self._plan, self._index = plan, index
        self.counts = ReadCounts()
        self.restore(StreamState())

    @property
    def state(self) -> StreamState:
        """The position after the last row handed out."""
        return self._state

    def restore(self, state: StreamState) -> None:
        """Goes to a position; the counts go on from where they are."""
        self._state = state
        self._rows: Rows | None = None
        self._number = 0
        self._after: StreamState | None = None
        self._carried: list[_Pending] | None = [] if not state.carried else None  # None: to be read again
        self._read_ahead: collections.deque[tuple[int, list[_Pending]]] = collections.deque()
        self._read_next = state.next.example

    def next_row(self) -> Rows | None:
        """The next row, field -> [length] (a view to be copied at once); None when the stream is exhausted."""
        if self._rows is None:
            self._pack_window()
        row = self._state.row
        assert self._rows is not None
        assert self._after is not None
        if not self._number:
            return None
        values = {name: array[row] for name, array in self._rows.items()}
        if row + 1 < self._number:
            self._state = dataclasses.replace(self._state, row=row + 1)
        else:
            self._state, self._rows, self._after = self._after, None, None
        return values

    def _window_rows(self, window: int) -> int:
        """Rows of a window; first windows differ in size, so that the streams do not all pack at the same step."""
        if window:
            return ROWS_PER_WINDOW
        return max(1, ROWS_PER_WINDOW * (self._index + 1) // self._plan.streams)

    def _pack_window(self) -> None:
        """Reads, packs and lays out the window at whose beginning the state stands."""
        plan, state = self._plan, self._state
        limit = self._window_rows(state.window)
        segments, after = self._fill(state, limit)
        if plan.packing and plan.objective.spec.packable:
            sizes = np.array([pending.sizes for pending in segments], np.int64).reshape(
                len(segments), len(plan.lengths)
            )
            row_of = assign_rows(sizes, list(plan.lengths.values()), limit, first=len(state.carried))
        else:
            row_of = np.where(np.arange(len(segments)) < limit, np.arange(len(segments)), -1)
        used, first = np.unique(row_of[row_of >= 0], return_index=True)
        row_of = self._order_rows(row_of, used, first, state.window)
        here = np.flatnonzero(row_of >= 0)
        chosen = [segments[index].placed for index in here.tolist()]
        self._rows = {}
        if chosen:
            self._rows = assemble_rows(chosen, row_of[here], len(used), plan.objective.spec, plan.lengths, plan.ids)
        self._number = len(used)
        self._carried = [segments[index] for index in np.flatnonzero(row_of < 0).tolist()]
        carried = tuple(pending.cursor for pending in self._carried)
        self._after = StreamState(state.window + 1, after, carried)

    def _order_rows(self, row_of: np.ndarray, used: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
        """Renames the used rows: by their first segment, or at random (packing puts the longest segments first)."""
        if self._plan.shuffle:
            rng = np.random.default_rng(named_seed(self._plan.seed, "rows", self._index, window))
            rank = rng.permutation(len(used))
        else:
            rank = np.argsort(np.argsort(first))
        names = np.full(int(row_of.max(initial=-1)) + 2, -1, np.int64)  # the last entry serves row -1
        names[used] = rank
        return names[row_of]

    def _fill(self, state: StreamState, rows: int) -> tuple[list[_Pending], Cursor]:
        """The window's segments: those carried over, then new ones until they would fill `rows` rows."""
        plan = self._plan
        if self._carried is None:
            self._carried = self._read_carried(state.carried)
        segments = list(self._carried)
        capacity = [rows * length for length in plan.lengths.values()]
        totals = [sum(column) for column in zip(*(pending.sizes for pending in segments))] or [0] * len(capacity)
        packed = plan.packing and plan.objective.spec.packable
        cursor = state.next
        while all(map(int.__lt__, totals, capacity)) if packed else len(segments) < rows:
            entry = self._peek()
            if entry is None:
                break
            example, pieces = entry
            offset = cursor.segment if example == cursor.example else 0
            if offset < len(pieces):
                segments.append(pieces[offset])
                totals = [total + size for total, size in zip(totals, pieces[offset].sizes)]
                offset += 1
            if offset >= len(pieces):
                self._read_ahead.popleft()
                cursor = Cursor(example + 1, 0)
            else:
                cursor = Cursor(example, offset)
        return segments, cursor

    def _peek(self) -> tuple[int, list[_Pending]] | None:
        """(number, segments) of the first example read ahead; reads more when there is none; None at the end."""
        if not self._read_ahead:
            numbers = range(self._read_next, self._read_next + _READ_AHEAD)
            if self._plan.order.size is not None:
                end = -(-(self._plan.order.size - self._index) // self._plan.streams)  # examples of this stream
                numbers = range(self._read_next, min(numbers.stop, max(self._read_next, end)))
            self._read_ahead.extend(zip(numbers, self._read(list(numbers))))
            self._read_next = numbers.stop
        return self._read_ahead[0] if self._read_ahead else None

    def _read_carried(self, cursors: tuple[Cursor, ...]) -> list[_Pending]:
        numbers = list(dict.fromkeys(cursor.example for cursor in cursors))
        pieces = dict(zip(numbers, self._read(numbers, count=False)))
        return [pieces[cursor.example][cursor.segment] for cursor in cursors]

    def _read(self, numbers: list[int], count: bool = True) -> list[list[_Pending]]:
        """The segments of the stream's examples with these numbers; count: add them to the counts."""
        plan = self._plan
        globals_ = [number * plan.streams + self._index for number in numbers]
        places = [plan.order[place] for place in globals_]
        result: list[list[_Pending]] = []
        for number, place, (source, _), example in zip(numbers, globals_, places, plan.reader.read(places)):
            if example is None:
                result.append([])
                self.counts.empty += count
                continue
            pieces = plan.objective.segments(example, plan.length, self._rng(place))
            result.append(
                [
                    _Pending(
                        Cursor(number, index), Placed(fields, source), segment_lengths(fields, plan.objective.spec)
                    )
                    for index, fields in enumerate(pieces.segments)
                ]
            )
            if count:
                self.counts.examples += 1
                self.counts.segments += len(pieces.segments)
                self.counts.split += len(pieces.segments) > 1
                self.counts.trimmed += pieces.tokens_trimmed > 0
                self.counts.tokens_trimmed += pieces.tokens_trimmed
        return result

    def _rng(self, place: int) -> Callable[[], np.random.Generator]:
        """The example's own generator, which depends on its place in the order: new in every epoch."""
        return lambda: np.random.default_rng([self._plan.seed, place])
