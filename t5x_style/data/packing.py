"""Packing: segments into rows of fixed length, a window of rows at a time.

`assign_rows` decides, `assemble_rows` copies. A window is `first-fit decreasing`: what was left over from the window
before comes first, then the segments from the longest to the shortest, each into the first row with room for it. A
segment that finds no room is left over for the next window, so no token is ever dropped. (First-fit decreasing needs
at most 11/9 of the optimal number of rows plus 6/9: Dosa 2007. Padding measured on documents and instructions: see
docs/data_loading.md.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from t5x_style.data.batches import PAD, BatchSpec, Field

Rows = dict[str, np.ndarray]


class Placed(NamedTuple):
    """A segment with its source: fields of role "given" -> arrays, and the index of the source it came from."""

    fields: Mapping[str, np.ndarray]
    source: int


class SpecialIds(NamedTuple):
    """The ids that packing writes itself."""

    pad: int
    start: int


def segment_lengths(fields: Mapping[str, np.ndarray], spec: BatchSpec) -> list[int]:
    """Length of a segment on every side of the spec.

    Raises:
      AssertionError: fields of one side differ in length (an objective's mistake).
    """
    lengths = []
    for side in spec.sides:
        sizes = {len(fields[field.name]) for field in spec.of_side(side) if field.name in fields}
        assert len(sizes) == 1, f"a segment's {side} fields have lengths {sizes}"
        lengths.append(sizes.pop())
    return lengths


def assign_rows(sizes: np.ndarray, capacities: Sequence[int], rows: int, first: int = 0) -> np.ndarray:
    """Chooses a row for every segment.

    Args:
      sizes: [segments, sides] lengths, none above its capacity.
      capacities: [sides] row lengths.
      rows: number of rows.
      first: so many segments at the beginning (left over from before) are placed before all others.

    Returns:
      [segments] row indices; -1 for segments without a place.

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
    segments: Sequence[Placed],
    row_of: np.ndarray,
    rows: int,
    spec: BatchSpec,
    lengths: Mapping[str, int],
    ids: SpecialIds,
) -> Rows:
    """Copies segments into rows; within a row they keep the order of `segments`.

    Args:
      segments: what to place. row_of: [segments] the row of each, all >= 0.
      rows: number of rows. spec, lengths: the fields, and the row length of each side.
      ids: padding and start id.

    Returns:
      field -> [rows, length of its side].
    """
    order = np.argsort(row_of, kind="stable")
    ordered = [segments[index] for index in order.tolist()]
    row = row_of[order]
    out: Rows = {}
    for side in spec.sides:
        side_fields = spec.of_side(side)
        names = {field.name for field in side_fields}
        sizes = np.array(
            [next(len(array) for name, array in segment.fields.items() if name in names) for segment in ordered],
            np.int64,
        )
        layout = _Layout.of(row, sizes, lengths[side])
        given: dict[str, np.ndarray] = {}
        for field in sorted(side_fields, key=lambda field: field.role == "shifted"):
            values = _values(field, side, ordered, sizes, layout, given, ids)
            padding = ids.pad if field.padding == PAD else field.padding
            array: np.ndarray = np.full(rows * lengths[side], padding, field.dtype)
            array[layout.destination] = values
            out[field.name] = array.reshape(rows, lengths[side])
    return {field.name: out[field.name] for field in spec.fields}


class _Layout(NamedTuple):
    """Where the tokens of the ordered segments go on one side, all of them one after the other."""

    starts: np.ndarray  # [segments] offset of each segment in the run of all tokens
    positions: np.ndarray  # [tokens] within the segment
    ordinals: np.ndarray  # [segments] 1, 2, ... within the row
    destination: np.ndarray  # [tokens] in the flat [rows * length] array

    @classmethod
    def of(cls, row: np.ndarray, sizes: np.ndarray, length: int) -> _Layout:
        ends = np.cumsum(sizes)
        starts = ends - sizes
        new_row = np.ones(len(row), bool)
        new_row[1:] = row[1:] != row[:-1]
        first_of_row = np.maximum.accumulate(np.where(new_row, np.arange(len(row)), 0))
        in_row = starts - starts[first_of_row] if len(row) else starts
        assert not len(row) or int((in_row + sizes).max()) <= length, "a row overflows"
        positions = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
        destination = np.repeat(row * length + in_row, sizes) + positions
        return cls(starts, positions, np.arange(len(row)) - first_of_row + 1, destination)


def _values(
    field: Field,
    side: str,
    ordered: Sequence[Placed],
    sizes: np.ndarray,
    layout: _Layout,
    given: dict[str, np.ndarray],
    ids: SpecialIds,
) -> np.ndarray | int | float:
    """[tokens] values of one field over all segments; given: the flat arrays of role "given" made before."""
    if field.role == "segment_ids":
        return np.repeat(layout.ordinals, sizes)
    if field.role == "positions":
        return layout.positions
    if field.role == "source_ids":
        return np.repeat(np.array([segment.source for segment in ordered], np.int32), sizes)
    if field.role == "shifted":
        targets = given[f"{side}_target_tokens"]
        shifted = np.empty_like(targets)
        shifted[1:] = targets[:-1]
        shifted[layout.starts[sizes > 0]] = ids.start
        return shifted
    if not any(field.name in segment.fields for segment in ordered):
        assert field.fill is not None or not ordered, f"the objective gives no {field.name}"
        return 0 if field.fill is None else field.fill
    arrays = [
        segment.fields[field.name] if field.name in segment.fields else np.full(size, field.fill, field.dtype)
        for segment, size in zip(ordered, sizes.tolist())
    ]
    given[field.name] = np.concatenate(arrays)
    return given[field.name]
