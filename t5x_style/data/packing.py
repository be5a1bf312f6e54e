"""Packing: pieces into rows of fixed length, a window of rows at a time.

`assign_rows` decides, `assemble_rows` copies. A window is `first-fit decreasing`: what was left over from the window
before comes first, then the pieces from the longest to the shortest, each into the first row with room for it. A
piece that finds no room is left over for the next window, so no token is ever dropped. (First-fit decreasing needs
at most 11/9 of the optimal number of rows plus 6/9: Dosa 2007. Padding measured on documents and instructions: see
docs/data_loading.md.)

Worked example of a piece of two parts (a pair) behind a piece of one, start id 3, row length 8:

    pieces                   [5, 6]  and  [7, 8, 7, 9, 4] with decoder_parts [2, 3]
    decoder_target_tokens    [5, 6, 7, 8, 7, 9, 4, 0]
    decoder_input_tokens     [3, 5, 3, 7, 3, 7, 9, 0]
    decoder_segment_ids      [1, 1, 2, 2, 3, 3, 3, 0]
    decoder_piece_ids        [1, 1, 2, 2, 2, 2, 2, 0]
    decoder_positions        [0, 1, 0, 1, 0, 1, 2, 0]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data.batches import PAD, BatchSpec, Field
from t5x_style.errors import UserError

Rows = dict[str, np.ndarray]


class Placed(NamedTuple):
    """A piece and where it comes from.

    Attributes:
      fields: given fields -> arrays. source: index of its source. start: the id that its shifted fields begin with.
      sizes: tokens on every side, in the order of the spec. parts: lengths of its parts by side; None: it has one.
    """

    fields: Mapping[str, np.ndarray]
    source: int
    start: int
    sizes: tuple[int, ...]
    parts: tuple[np.ndarray, ...] | None = None

    @property
    def segments(self) -> int:
        """How many segments of a row it is."""
        return 1 if self.parts is None else len(self.parts[0])


class Given(NamedTuple):
    """What an objective may give: fields, and `f"{side}_parts"` -> number of its side."""

    fields: Mapping[str, tuple[int, str, tuple[int, ...]]]  # side, kinds of dtype, trailing
    parts: Mapping[str, int]
    places: tuple[tuple[str, int], ...]  # fields of role "index", and the side that they point into

    @classmethod
    def of(cls, spec: BatchSpec) -> Given:
        """Of a spec's fields."""
        numbers = {side: number for number, side in enumerate(spec.sides)}
        fields = {
            field.name: (numbers[field.side], "iub" if np.dtype(field.dtype).kind in "iu" else "iubf", field.trailing)
            for field in spec.fields
            if field.role in ("given", "shifted", "index")
        }
        parts = {f"{side}_parts": number for side, number in numbers.items()}
        places = tuple((field.name, numbers[field.into]) for field in spec.fields if field.into is not None)
        return cls(fields, parts, places)


def place(fields: Mapping[str, np.ndarray], given: Given, source: int, start: int) -> Placed:
    """Measures a piece; a side of which it gives no field is empty in it.

    Raises:
      UserError: it gives a field that the spec does not have, fields of one side that differ in length, or parts that
        do not add up.
    """
    sizes, parts = [-1] * len(given.parts), []
    for name, array in fields.items():
        known = given.fields.get(name)
        if known is None:
            if name not in given.parts:
                raise UserError(f"an objective gives {name!r}, which its spec does not have or which the loader makes")
            parts.append(name)
            continue
        side, kinds, trailing = known
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds or array.shape[1:] != trailing:
            _check_array(name, array, kinds, trailing)
        if sizes[side] < 0:
            sizes[side] = len(array)
        elif sizes[side] != len(array):
            raise UserError(f"an objective's {name} has {len(array)} tokens, another field of its side {sizes[side]}")
    whole = tuple([max(size, 0) for size in sizes])
    for name, into in given.places:
        if name in fields and len(fields[name]) and np.max(fields[name]) >= whole[into]:
            raise UserError(f"an objective's {name} points at place {np.max(fields[name])} of {whole[into]}")
    return _in_parts(fields, given, source, start, whole) if parts else Placed(fields, source, start, whole)


def _check_array(name: str, array: object, kinds: str, trailing: tuple[int, ...]) -> None:
    """What is no array of its own (a list) is one to packing, if its numbers fit."""
    try:
        found = np.asarray(array)
    except ValueError as error:
        raise UserError(f"an objective's {name} is no array ({error})") from error
    if found.ndim != 1 + len(trailing) or found.shape[1:] != trailing:
        raise UserError(f"an objective's {name} has shape {list(found.shape)}, must be [tokens, {list(trailing)}]")
    if found.size and found.dtype.kind not in kinds:
        raise UserError(f"an objective's {name} holds {found.dtype} numbers, its field whole ones")


def _in_parts(
    fields: Mapping[str, np.ndarray], given: Given, source: int, start: int, sizes: tuple[int, ...]
) -> Placed:
    parts = [np.asarray(fields[name], np.int64) for name in given.parts if name in fields]
    if len(parts) != len(sizes) or len({len(own) for own in parts}) > 1:
        raise UserError("an objective gives parts of unequal number, or not on every side")
    if tuple(int(own.sum()) for own in parts) != sizes or any((own < 0).any() for own in parts):
        raise UserError(f"an objective's parts {[own.tolist() for own in parts]} do not add up to {list(sizes)}")
    return Placed(fields, source, start, sizes, tuple(parts))


def assign_rows(sizes: np.ndarray, capacities: Sequence[int], rows: int, first: int = 0) -> np.ndarray:
    """Chooses a row for every piece.

    Args:
      sizes: [pieces, sides] lengths, none above its capacity (a column may count something else, such as segments).
      capacities: [sides] row lengths.
      rows: number of rows.
      first: so many pieces at the beginning (left over from before) are placed before all others.

    Returns:
      [pieces] row indices; -1 for pieces without a place.

    Row length 10, 2 rows, sizes 4, 7, 3, 6, 2: longest first gives 7 -> row 0, 6 -> row 1, 4 -> row 1, 3 -> row 0,
    and 2 finds no room:

    >>> assign_rows(np.array([[4], [7], [3], [6], [2]]), [10], 2).tolist()
    [1, 0, 0, 1, -1]
    """
    relative = (sizes / np.asarray(capacities)).max(axis=1)
    rest = first + np.argsort(-relative[first:], kind="stable")
    placed = np.full(len(sizes), -1, np.int64)
    free = np.tile(np.asarray(capacities, np.int64), (rows, 1))  # [rows, sides]
    single = free[:, 0] if free.shape[1] == 1 else None
    for index in [*range(first), *rest.tolist()]:
        if single is not None:
            size = sizes[index, 0]
            fits = single >= size
            row = int(fits.argmax())
            if fits[row]:
                single[row] -= size
                placed[index] = row
        else:
            fits = (free >= sizes[index]).all(axis=1)
            row = int(fits.argmax())
            if fits[row]:
                free[row] -= sizes[index]
                placed[index] = row
    return placed


def assemble_rows(
    pieces: Sequence[Placed],
    row_of: np.ndarray,
    rows: int,
    spec: BatchSpec,
    lengths: Mapping[str, int],
    pad: int,
    isolate: bool = True,
) -> Rows:
    """Copies pieces into rows; within a row they keep the order of `pieces`.

    Args:
      pieces: what to place. row_of: [pieces] the row of each, all >= 0.
      rows: number of rows. spec, lengths: the fields, and the row length of each side.
      pad: the padding id. isolate: False makes a row one segment with running positions.

    Returns:
      field -> [rows, length of its side, *trailing].
    """
    order = np.argsort(row_of, kind="stable")
    ordered = [pieces[index] for index in order.tolist()]
    row = row_of[order]
    run = _Run.of(ordered, row, spec, lengths)
    out: Rows = {}
    for field in sorted(spec.fields, key=lambda field: field.role == "shifted"):
        length, layout = lengths[field.side], run.layouts[field.side]
        padding = pad if field.padding == PAD else field.padding
        array: np.ndarray = np.full((rows * length, *field.trailing), padding, field.dtype)
        array[layout.destination] = _values(field, run, length, isolate)
        out[field.name] = array.reshape(rows, length, *field.trailing)
    return {field.name: out[field.name] for field in spec.fields}


class _Layout(NamedTuple):
    """Where the tokens of the ordered segments go on one side, all of them one after the other."""

    sizes: np.ndarray  # [segments]
    starts: np.ndarray  # [segments] offset of each segment in the run of all tokens
    in_row: np.ndarray  # [segments] its first place in the row
    positions: np.ndarray  # [tokens] within the segment
    destination: np.ndarray  # [tokens] in the flat [rows * length] array

    @classmethod
    def of(cls, row: np.ndarray, first_of_row: np.ndarray, sizes: np.ndarray, length: int) -> _Layout:
        ends = np.cumsum(sizes)
        starts = ends - sizes
        in_row = starts - starts[first_of_row] if len(row) else starts
        assert not len(row) or int((in_row + sizes).max()) <= length, "a row overflows"
        positions = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
        destination = np.repeat(row * length + in_row, sizes) + positions
        return cls(sizes, starts, in_row, positions, destination)


class _Run(NamedTuple):
    """The ordered pieces as segments, and what has been made of them."""

    pieces: Sequence[Placed]
    piece_of: np.ndarray  # [segments]
    first_of_row: np.ndarray  # [segments] index of the first segment of the same row
    piece_ordinals: np.ndarray  # [segments] 1, 2, ... of its piece within the row
    layouts: Mapping[str, _Layout]
    given: dict[str, np.ndarray]  # field -> [tokens, *trailing]

    @classmethod
    def of(cls, pieces: Sequence[Placed], row: np.ndarray, spec: BatchSpec, lengths: Mapping[str, int]) -> _Run:
        piece_of = np.arange(len(pieces))
        if any(piece.parts is not None for piece in pieces):
            piece_of = np.repeat(piece_of, [piece.segments for piece in pieces])
        segment_row = row[piece_of]
        first = _firsts(segment_row)
        layouts = {
            side: _Layout.of(segment_row, first, _segment_sizes(pieces, number), lengths[side])
            for number, side in enumerate(spec.sides)
        }
        ordinals = np.arange(len(row)) - _firsts(row) + 1
        return cls(pieces, piece_of, first, ordinals[piece_of], layouts, {})


def _firsts(row: np.ndarray) -> np.ndarray:
    """Index of the first entry of the same row, for sorted rows: [0, 0, 2] -> [0, 0, 2]; [4, 4, 7] -> [0, 0, 2]."""
    new_row = np.ones(len(row), bool)
    new_row[1:] = row[1:] != row[:-1]
    return np.maximum.accumulate(np.where(new_row, np.arange(len(row)), 0))


def _segment_sizes(pieces: Sequence[Placed], side: int) -> np.ndarray:
    if all(piece.parts is None for piece in pieces):
        return np.array([piece.sizes[side] for piece in pieces], np.int64)
    return np.concatenate([[piece.sizes[side]] if piece.parts is None else piece.parts[side] for piece in pieces])


def _values(field: Field, run: _Run, length: int, isolate: bool) -> np.ndarray | int | float:
    """[tokens, *trailing] values of one field over all segments."""
    layout = run.layouts[field.side]
    if field.role == "segment_ids":
        return np.repeat(np.arange(len(run.piece_of)) - run.first_of_row + 1, layout.sizes) if isolate else 1
    if field.role == "piece_ids":
        return np.repeat(run.piece_ordinals, layout.sizes)
    if field.role == "positions":
        return layout.positions if isolate else layout.destination % length
    if field.role == "source_ids":
        sources = np.array([piece.source for piece in run.pieces], np.int32)
        return np.repeat(sources[run.piece_of], layout.sizes)
    if field.role == "shifted":
        return _shifted(field, run, layout, isolate)
    values = _given(field, run)
    if field.role == "index" and isinstance(values, np.ndarray):
        assert field.into is not None
        moved = values + np.repeat(run.layouts[field.into].in_row, layout.sizes)
        return np.where(values < 0, values, moved)
    return values


def _given(field: Field, run: _Run) -> np.ndarray | int | float:
    """What the pieces give, `fill` where one gives nothing."""
    name = field.name
    if not any(name in piece.fields for piece in run.pieces):
        if field.fill is None and run.layouts[field.side].sizes.any():
            raise UserError(f"the objective gives no {name}")
        if not run.layouts[field.side].sizes.any():
            run.given[name] = np.zeros((0, *field.trailing), field.dtype)
        return 0 if field.fill is None else field.fill
    side = list(run.layouts).index(field.side)
    arrays = []
    for piece in run.pieces:
        if name in piece.fields:
            arrays.append(np.reshape(piece.fields[name], (piece.sizes[side], *field.trailing)))
        elif piece.sizes[side] and field.fill is None:
            raise UserError(f"the objective gives no {name} for a piece that has {field.side} tokens")
        else:
            arrays.append(np.full((piece.sizes[side], *field.trailing), field.fill or 0, field.dtype))
    run.given[name] = np.concatenate(arrays)
    return run.given[name]


def _shifted(field: Field, run: _Run, layout: _Layout, isolate: bool) -> np.ndarray:
    """The side's targets moved right by one; a piece that gives the field itself keeps what it gave."""
    targets = run.given[f"{field.side}_target_tokens"]
    shifted = np.empty_like(targets)
    shifted[1:] = targets[:-1]
    begins = layout.sizes > 0
    if not isolate:  # the first tokens of rows alone
        begins = begins & (layout.in_row == 0)
    starts = np.array([piece.start for piece in run.pieces], np.int32)[run.piece_of]
    shifted[layout.starts[begins]] = starts[begins]
    if any(field.name in piece.fields for piece in run.pieces):
        number = list(run.layouts).index(field.side)
        offset = 0
        for piece in run.pieces:
            if field.name in piece.fields:
                shifted[offset : offset + piece.sizes[number]] = piece.fields[field.name]
            offset += piece.sizes[number]
    return shifted
