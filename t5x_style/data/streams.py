"""A row stream: groups of examples of its own order, packed into an endless or finite run of rows.

A stream works in windows of rows. Its state is where the window began, which pieces were left over from the window
before, and how many rows of the window were handed out; setting it packs the same window again from the shards.
Nothing in a stream depends on another stream, on a process or on what a later stage brings.
"""

from __future__ import annotations

import collections
import dataclasses
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data.objectives.objective import Example, Piece
from t5x_style.data.order import Group, named_seed
from t5x_style.data.packing import Placed, Rows, assemble_rows, assign_rows, place
from t5x_style.data.sources import Use
from t5x_style.data.stream_plan import GroupOrder, PlannedPart, Randomness, StreamPlan
from t5x_style.data.stream_state import Cursor, ReadCounts, StreamState
from t5x_style.errors import UserError

# Rows packed together. More rows waste less and look further ahead; padding measured in docs/data_loading.md.
ROWS_PER_WINDOW = 32
_MOST_BARREN = 20_000  # groups in a row without a piece before an endless stream gives up: it would never end
_READ_AHEAD = 64  # examples per call of the reader
_TOKENS_AHEAD = 2**18  # where documents are long, fewer: all that was read ahead is held


class Pending(NamedTuple):
    """A piece read and not yet in a row."""

    cursor: Cursor
    placed: Placed
    raw: int


class _Cut:
    """A group that is being cut into pieces."""

    def __init__(self, number: int, use: Use, part: PlannedPart, examples: list[Example], rng: np.random.Generator):
        self.number, self.use, self.part, self.rng = number, use, part, rng
        self.pieces: Iterator[Piece] = iter(())
        if len(examples) >= use.objective.least:
            self.pieces = self._told(examples)
        self.records = [example.record for example in examples]
        self.made = 0

    def _told(self, examples: list[Example]) -> Iterator[Piece]:
        """The pieces; raises UserError where the objective fails, with the place in its code."""
        try:
            for piece in self.use.objective.segments(examples, self.part.lengths, self.use.ids, self.rng):
                if not isinstance(piece, Piece):
                    raise UserError(f"{type(self.use.objective).__name__} makes a {type(piece).__name__}, not a Piece")
                yield piece
        except UserError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"{type(self.use.objective).__name__} fails on the records {self.records} of {self.use.cached.folder}: "
                f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
            ) from error


class RowStream:
    """Stream `index` of a plan. `next_row` gives rows until it gives None; `state` and `restore` are exact."""

    def __init__(self, plan: StreamPlan, index: int):
        self._plan, self._index = plan, index
        self._randomness = Randomness(plan.seed)
        self.counts = ReadCounts()
        self.restore(StreamState())

    @property
    def state(self) -> StreamState:
        """The position after the last row handed out."""
        began = self._began
        return StreamState(began.window, self._row, began.next, began.carried, began.switches, dict(self._tokens))

    @property
    def stage(self) -> int:
        """The number of the stage that it is in."""
        return len(self._began.switches)

    def restore(self, state: StreamState) -> None:
        """Goes to a position; the counts go on from where they are."""
        self._began, self._row = state, state.row  # of the window; rows of it that were handed out
        self._tokens = dict(state.tokens)
        self._order = GroupOrder(self._plan, self._index, state.switches)
        self._rows: Rows | None = None
        self._number = 0
        self._contents: list[list[Pending]] = []
        self._after = Cursor(0, 0)
        self._carried: list[Pending] | None = [] if not state.carried else None  # None: to be read again
        self._read_from(state.next)

    def next_row(self) -> Rows | None:
        """The next row, field -> [length] (a view to be copied at once); None when the stream is exhausted."""
        if self._rows is None:
            self._pack_window()
        row = self._row
        assert self._rows is not None
        if not self._number:
            return None
        values = {name: array[row] for name, array in self._rows.items()}
        for pending in self._contents[row]:
            self._tokens[pending.placed.source] = self._tokens.get(pending.placed.source, 0) + pending.raw
        if row + 1 < self._number:
            self._row = row + 1
        else:
            assert self._carried is not None
            self._begin_window(self._after, self._carried)
        return values

    def switch(self) -> None:
        """Begins the next stage: what is packed or left over goes on where it fits, the rest of a group is dropped."""
        if self._rows is None and self._row:
            self._pack_window()  # restored within a window
        if self._rows is None:
            carried, cursor = self._all_carried(), self._began.next
        else:
            assert self._carried is not None
            waiting = [pending for row in self._contents[self._row :] for pending in row]
            carried, cursor = sorted(waiting + self._carried, key=lambda pending: pending.cursor), self._after
        if cursor.piece:  # within a group
            for pending in self._pieces_of([cursor.group]):
                if pending.cursor.piece >= cursor.piece:
                    self._drop(pending)
            cursor = Cursor(cursor.group + 1, 0)
        stage = self.stage + 1
        sizes = self._plan.parts[stage].capacity
        kept = []
        for pending in carried:
            if all(map(int.__le__, pending.placed.sizes, sizes)):
                kept.append(pending)
            else:
                self._drop(pending)
        switches = (*self._began.switches, cursor.group)
        self._began = dataclasses.replace(self._began, switches=switches)
        self._order = GroupOrder(self._plan, self._index, switches)
        self._read_from(cursor)
        self._begin_window(cursor, kept)

    def _drop(self, pending: Pending) -> None:
        self.counts.dropped += 1
        self.counts.tokens_dropped += pending.raw

    def _begin_window(self, cursor: Cursor, carried: list[Pending]) -> None:
        names = tuple(pending.cursor for pending in carried)
        self._began = dataclasses.replace(self._began, window=self._began.window + 1, row=0, next=cursor, carried=names)
        self._row, self._rows, self._carried = 0, None, carried

    @property
    def _lengths(self) -> Mapping[str, int]:
        return self._plan.parts[self.stage].lengths

    def _window_rows(self, window: int) -> int:
        """Rows of a window; first windows differ in size, so that the streams do not all pack at the same step."""
        if window:
            return ROWS_PER_WINDOW
        return max(1, ROWS_PER_WINDOW * (self._index + 1) // self._plan.streams)

    def _capacities(self) -> list[int]:
        """Of a row: tokens of every side, and segments where they are limited."""
        limit = self._plan.spec.max_segments
        return [*self._lengths.values(), *(() if limit is None else (limit,))]

    def _sizes(self, pending: Pending) -> tuple[int, ...]:
        """What a piece takes of the capacities."""
        if self._plan.spec.max_segments is None:
            return pending.placed.sizes
        return (*pending.placed.sizes, pending.placed.segments)

    def _pack_window(self) -> None:
        """Reads, packs and lays out the window at whose beginning the state stands."""
        plan, state = self._plan, self._began
        limit = self._window_rows(state.window)
        carried = self._all_carried()
        pieces = self._fill(carried, limit)
        if plan.packed:
            sizes = np.array([self._sizes(pending) for pending in pieces], np.int64)
            sizes = sizes.reshape(len(pieces), len(self._capacities()))
            row_of = assign_rows(sizes, self._capacities(), limit, first=len(carried))
        else:
            row_of = np.where(np.arange(len(pieces)) < limit, np.arange(len(pieces)), -1)
        used, first = np.unique(row_of[row_of >= 0], return_index=True)
        row_of = self._order_rows(row_of, used, first, state.window)
        here = np.flatnonzero(row_of >= 0)
        chosen = [pieces[index] for index in here.tolist()]
        self._rows = {}
        self._contents = [[] for _ in used]
        if chosen:
            placed = [pending.placed for pending in chosen]
            lengths, rows = self._lengths, row_of[here]
            self._rows = assemble_rows(placed, rows, len(used), plan.spec, lengths, plan.pad, plan.isolate)
            for pending, row in zip(chosen, rows.tolist()):
                self._contents[row].append(pending)
        self._number = len(used)
        self._carried = [pieces[index] for index in np.flatnonzero(row_of < 0).tolist()]

    def _order_rows(self, row_of: np.ndarray, used: np.ndarray, first: np.ndarray, window: int) -> np.ndarray:
        """Renames the used rows: by their first piece, or at random (packing puts the longest pieces first)."""
        if self._plan.shuffle:
            rng = np.random.default_rng(named_seed(self._plan.seed, "rows", self._index, window))
            rank = rng.permutation(len(used))
        else:
            rank = np.argsort(np.argsort(first))
        names = np.full(int(row_of.max(initial=-1)) + 2, -1, np.int64)  # the last entry serves row -1
        names[used] = rank
        return names[row_of]

    def _fill(self, carried: Sequence[Pending], rows: int) -> list[Pending]:
        """The window's pieces: those carried over, then new ones until they would fill `rows` rows."""
        pieces = list(carried)
        capacity = [rows * size for size in self._capacities()]
        totals = [sum(column) for column in zip(*map(self._sizes, pieces))] or [0] * len(capacity)
        while all(map(int.__lt__, totals, capacity)) if self._plan.packed else len(pieces) < rows:
            pending = self._next_piece()
            if pending is None:
                break
            pieces.append(pending)
            totals = list(map(int.__add__, totals, self._sizes(pending)))
        self._after = self._cursor
        return pieces

    # Reading: groups ahead, then piece by piece.

    def _read_from(self, cursor: Cursor) -> None:
        """Goes to a piece that was not read yet."""
        self._ahead: collections.deque[tuple[int, Use, Group, list[Example]]] = collections.deque()
        self._read_next = cursor.group
        self._cut: _Cut | None = None
        self._skip = cursor.piece
        self._cursor = cursor
        self._barren = 0  # groups since the last that gave a piece

    def _next_piece(self) -> Pending | None:
        """The next piece of the stream; None at the end of a finite pass."""
        while True:
            if self._cut is None:
                if not self._ahead:
                    self._read_ahead()
                if not self._ahead:
                    return None
                number, use, group, examples = self._ahead.popleft()
                self._cut = self._open(number, use, group, examples)
            found = self._piece(self._cut)
            if found is None:
                self._barren += not self._cut.made
                if self._barren > _MOST_BARREN and self._plan.one_pass is None:
                    raise UserError(
                        f"{type(self._cut.use.objective).__name__} made nothing of {self._barren:,} groups of examples "
                        f"in a row, the last of source {self._cut.use.cached.name!r}; correct its settings or the data"
                    )
                self._cursor = Cursor(self._cut.number + 1, 0)
                self._randomness.give_back(self._cut.rng)
                self._cut, self._skip = None, 0
            elif found.cursor.piece >= self._skip:
                self._barren = 0
                self._cursor = Cursor(found.cursor.group, found.cursor.piece + 1)
                return found

    def _open(self, number: int, use: Use, group: Group, examples: list[Example]) -> _Cut:
        objective = use.objective
        rng = self._randomness.of(use.cached.name, group, objective)
        if not self._skip:
            self.counts.examples += len(examples) if len(examples) >= objective.least else 0
            self.counts.empty += len(group.records) - len(examples)
            self.counts.short += len(examples) if len(examples) < objective.least else 0
        return _Cut(number, use, self._order.part_of(number), examples, rng)

    def _piece(self, cut: _Cut, count: bool = True) -> Pending | None:
        """The next piece of a group, None behind its last; pieces that were made before are not counted again."""
        for piece in cut.pieces:
            fresh = count and cut.made >= self._skip
            if fresh:
                self.counts.trimmed += piece.cut > 0
                self.counts.tokens_trimmed += piece.cut
            if not piece.fields:
                continue
            if fresh:
                self.counts.pieces += 1
                self.counts.split += cut.made == 1
            cursor = Cursor(cut.number, cut.made)
            cut.made += 1
            return Pending(cursor, self._placed(cut, piece), piece.raw)
        return None

    def _placed(self, cut: _Cut, piece: Piece) -> Placed:
        what = type(cut.use.objective).__name__
        try:
            placed = place(piece.fields, self._plan.given, cut.use.source, cut.use.ids.start)
        except UserError as error:
            where = f"source {cut.use.cached.name!r}, records {cut.records}"
            raise UserError(f"{what}, {where}: {error}") from error
        if not any(placed.sizes):
            raise UserError(f"{what} made a piece without a token; it must yield none, or Piece({{}}, cut=...)")
        if any(map(int.__gt__, placed.sizes, cut.part.capacity)):
            raise UserError(
                f"{what} made a piece of {list(placed.sizes)} tokens for rows of {list(cut.part.capacity)} "
                f"({', '.join(cut.part.lengths)}); an objective must cut to the lengths it is given"
            )
        limit = self._plan.spec.max_segments
        if limit is not None and placed.segments > limit:
            raise UserError(f"{what} made a piece of {placed.segments} segments for rows of at most {limit}")
        return placed

    def _read_ahead(self) -> None:
        """Reads some groups in one call of the reader."""
        numbers = range(self._read_next, self._read_next + _READ_AHEAD)
        if self._plan.one_pass is not None:
            end = -(-(self._plan.one_pass.size - self._index) // self._plan.streams)  # groups of this stream
            numbers = range(self._read_next, min(numbers.stop, max(self._read_next, end)))
        groups, examples, tokens = [], 0, 0.0
        for number in numbers:
            groups.append((number, *self._order[number]))
            use, group = groups[-1][1:]
            examples += len(group.records)
            tokens += len(group.records) * use.cached.mean_tokens
            if examples >= _READ_AHEAD or tokens >= _TOKENS_AHEAD:
                break
        self._ahead.extend(self._read(groups))
        self._read_next += len(groups)

    def _read(self, groups: Sequence[tuple[int, Use, Group]]) -> list[tuple[int, Use, Group, list[Example]]]:
        found = iter(self._plan.reader.read([(use, record) for _, use, group in groups for record in group.records]))
        result = []
        for number, use, group in groups:
            examples = [next(found) for _ in group.records]
            result.append((number, use, group, [example for example in examples if example is not None]))
        return result

    def _all_carried(self) -> list[Pending]:
        """The pieces left over from the window before, read again where the stream was restored."""
        if self._carried is None:
            wanted = set(self._began.carried)
            numbers = sorted({cursor.group for cursor in wanted})
            made = {pending.cursor: pending for pending in self._pieces_of(numbers) if pending.cursor in wanted}
            self._carried = [made[cursor] for cursor in self._began.carried]
        return self._carried

    def _pieces_of(self, numbers: Sequence[int]) -> Iterator[Pending]:
        """All pieces of groups that were read before, made again; they are not counted."""
        for number, use, group, examples in self._read([(number, *self._order[number]) for number in numbers]):
            rng = self._randomness.of(use.cached.name, group, use.objective)
            cut = _Cut(number, use, self._order.part_of(number), examples, rng)
            while (pending := self._piece(cut, count=False)) is not None:
                yield pending
            self._randomness.give_back(rng)
