"""From repeated windows to the spans that go: their union, document by document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.substring.repeats import PLACE, UNIT_BITS, read_repeats
from beam_pipelines.web.substring.sequences import read_index
from t5x_style.files import fingerprint

SPAN = np.dtype([("row", np.uint32), ("start", np.uint32), ("stop", np.uint32), ("copy", "S32")])


class Span(NamedTuple):
    """Symbols `start` to `stop` of a document, and the id of a document that holds the kept copy, '' if unknown."""

    start: int
    stop: int
    copy: str


def merge_windows(places: np.ndarray, lengths: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Unites windows that overlap or touch and lie in one document.

    Args:
      places: int64 [k > 0] where the windows start in the unit, ascending.
      lengths: int64 [documents] symbols of each.
      length: of a window.

    Returns:
      (SPAN [s] without copies, int64 [s] the first window of each).

    Example: places [0, 1, 5, 9], lengths [8, 5], length 3 -> rows 0 0 1, starts 0 5 1, stops 4 8 4; windows [0, 2, 3].
    """
    ends = np.cumsum(lengths)
    row = np.searchsorted(ends, places, side="right")
    opens = np.ones(len(places), bool)
    opens[1:] = (row[1:] != row[:-1]) | (places[1:] > places[:-1] + length)
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(places)) - 1
    begin = (ends - lengths)[row[first]]
    spans = np.zeros(len(first), SPAN)
    spans["row"], spans["start"], spans["stop"] = row[first], places[first] - begin, places[last] + length - begin
    return spans, first


@dataclass(frozen=True)
class GatherSpans:
    """A map job's function: a unit's repeats from all parts to `<index>.spans`.

    Attributes:
      folder: where they go.
      keys: folder of the key files.
      repeats: the files of repeats.
      sources: the units' names, in order.
      length: of a window.
      copies: whether the documents that hold the kept copies are looked up.
    """

    folder: str
    keys: str
    repeats: Sequence[str]
    sources: Sequence[str]
    length: int
    copies: bool

    def __call__(self, unit: Unit) -> None:
        """Writes the unit's spans."""
        index = unit.arguments["index"]
        found = np.concatenate([read_repeats(path, index, len(self.sources)) for path in self.repeats])
        found = found[np.argsort(found["window"], kind="stable")]
        spans = np.zeros(0, SPAN)
        if len(found):
            places = (found["window"] & PLACE).astype(np.int64)
            lengths = read_index(storage.join(self.keys, f"{unit.name}.keys")).lengths
            spans, first = merge_windows(places, lengths, self.length)
            if self.copies:
                spans["copy"] = self._ids(found["copy"][first])
        content = spans.tobytes()
        with storage.atomic_writer(spans_path(self.folder, index)) as file:
            file.write(content)
        symbols = int((spans["stop"].astype(np.int64) - spans["start"]).sum())
        write_result(self.folder, unit, {"spans": len(spans), "symbols": symbols, "digest": fingerprint(content.hex())})

    def _ids(self, windows: np.ndarray) -> np.ndarray:
        """S32 [k]: ids of the documents that windows lie in; reads the index of every unit among them."""
        ids = np.zeros(len(windows), "S32")
        owner = windows >> UNIT_BITS
        for number in np.unique(owner):
            mine = owner == number
            index = read_index(storage.join(self.keys, f"{self.sources[int(number)]}.keys"))
            places = (windows[mine] & PLACE).astype(np.int64)
            ids[mine] = index.ids[np.searchsorted(np.cumsum(index.lengths), places, side="right")]
        return ids


def spans_path(folder: str, unit: int) -> str:
    """Where the spans of the unit with this index are."""
    return storage.join(folder, f"{unit:06d}.spans")


def read_spans(folder: str, unit: int) -> Mapping[int, list[Span]]:
    """row -> spans in ascending order, for the documents of one unit that have any."""
    with storage.open_read(spans_path(folder, unit)) as file:
        found = np.frombuffer(file.read(), SPAN)
    result: dict[int, list[Span]] = {}
    for row, start, stop, copy in found.tolist():
        result.setdefault(row, []).append(Span(start, stop, copy.decode()))
    return result
