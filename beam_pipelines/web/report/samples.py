"""Kept and rejected documents for a person to judge: the same ones whatever the runner and the number of workers.

Documents are drawn by their ids, which are hashes: those with the smallest. Of a rule with a threshold also those are
taken that came closest to it, since they tell most about the threshold. A worker notes only where each candidate lies
(a few kB a unit); the driver keeps the best of all units, in bounded memory, and reads their text at the end.
"""

from __future__ import annotations

import json
from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.files.read_ahead import read_ahead
from beam_pipelines.web.document import Verdict

KEPT, PER_REASON, NEAREST = 20, 5, 5
CHARACTERS = 1500  # of a sample's text
_READERS = 8  # each may hold a row group's text
_KEY_DIGITS = 12  # of an id: 48 bits order millions of documents; equal ones are ordered by their place


class Smallest:
    """The `count` smallest of the tuples that were added, in order."""

    def __init__(self, count: int):
        self._count = count
        self.items: list[tuple[Any, ...]] = []

    def add(self, item: tuple[Any, ...]) -> None:
        """Keeps `item` if it is among the smallest so far."""
        if len(self.items) < self._count:
            insort(self.items, item)
        elif item < self.items[-1]:
            self.items.pop()
            insort(self.items, item)


class _Reason:
    """Candidates of one reason: (key, row, threshold) and (distance, row, threshold)."""

    def __init__(self) -> None:
        self.drawn, self.nearest = Smallest(PER_REASON), Smallest(NEAREST)


class Candidates:
    """On a worker: where one unit's candidates lie. Rows are counted as they are written."""

    def __init__(self) -> None:
        self._kept = Smallest(KEPT)
        self._reasons: dict[tuple[str, str], _Reason] = {}
        self._kept_rows = self._rejected_rows = 0

    def keep(self, document_id: str) -> None:
        """The next row of the unit's documents."""
        self._kept.add((_key(document_id), self._kept_rows))
        self._kept_rows += 1

    def reject(self, document_id: str, stage: str, verdict: Verdict) -> None:
        """The next row of the unit's rejected documents."""
        reason = self._reasons.get((stage, verdict.reason))
        if reason is None:
            reason = self._reasons[stage, verdict.reason] = _Reason()
        threshold = verdict.threshold
        reason.drawn.add((_key(document_id), self._rejected_rows, threshold))
        if threshold is not None and verdict.value is not None:
            reason.nearest.add((distance(verdict.value, threshold), self._rejected_rows, threshold))
        self._rejected_rows += 1

    def result(self) -> dict[str, Any]:
        """As JSON-like values."""
        rejected: dict[str, dict[str, Any]] = {}
        for (stage, name), reason in sorted(self._reasons.items()):
            found = {"drawn": reason.drawn.items, "nearest": reason.nearest.items}
            rejected.setdefault(stage, {})[name] = found
        return {"kept": self._kept.items, "rejected": rejected}


def distance(value: float, threshold: float) -> float:
    """How far a value is from its threshold, relative to it; absolute where it is 0.

    Example: distance(45, 50) == 0.1.
    """
    return round(float(abs(value - threshold) / abs(threshold) if threshold else abs(value)), 9)


def _key(document_id: str) -> str:
    return document_id[:_KEY_DIGITS]


@dataclass(frozen=True)
class Place:
    """A row of one of the run's files.

    Attributes:
      job: index of the map job that rejected the document, None for a kept one.
      unit: the unit's index in input order.
      row: in the unit's file.
      threshold: what the verdict held the value against.
      near: whether it was taken for its nearness to the threshold.
    """

    job: int | None
    unit: int
    row: int
    threshold: float | None = None
    near: bool = False


@dataclass
class _Merged:
    drawn: Smallest = field(default_factory=lambda: Smallest(PER_REASON))
    nearest: Smallest = field(default_factory=lambda: Smallest(NEAREST))


class Picks:
    """On the driver: the best candidates of all units; memory is bounded by the number of reasons."""

    def __init__(self) -> None:
        self._kept = Smallest(KEPT)
        self._reasons: dict[tuple[str, str], _Merged] = {}

    def add(self, job: int, unit: int, candidates: Mapping[str, Any], last: bool) -> None:
        """Adds one unit's `Candidates.result()`; the kept ones count only in the last map job."""
        if last:
            for key, row in candidates["kept"]:
                self._kept.add((key, unit, row))
        for stage, reasons in candidates["rejected"].items():
            for name, found in reasons.items():
                merged = self._reasons.setdefault((stage, name), _Merged())
                for key, row, threshold in found["drawn"]:
                    merged.drawn.add((key, unit, row, job, threshold))
                for far, row, threshold in found["nearest"]:
                    merged.nearest.add((far, unit, row, job, threshold))

    def places(self) -> tuple[list[Place], dict[tuple[str, str], list[Place]]]:
        """Where the samples lie: (kept, (stage, reason) -> rejected, the nearest first, none twice)."""
        kept = [Place(None, unit, row) for _, unit, row in self._kept.items]
        rejected = {}
        for key in sorted(self._reasons):
            merged = self._reasons[key]
            found: dict[tuple[int, int], Place] = {}
            for items, near in ((merged.nearest.items, True), (merged.drawn.items, False)):
                for _, unit, row, job, threshold in items:
                    found.setdefault((unit, row), Place(job, unit, row, threshold, near))
            rejected[key] = list(found.values())
        return kept, rejected


def fetch(picks: Picks, documents: Sequence[str], rejected: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Reads the samples' rows.

    Args:
      picks: all units' candidates.
      documents: path of each unit's documents.
      rejected: per map job, path of each unit's rejected documents.

    Returns:
      {"kept": [sample], "rejected": [{"stage", "reason", "samples": [sample]}]}; a sample has url, text (cut),
      characters (before the cut), language, value, threshold, near, note (what the metadata say about the rejection).
    """
    kept, by_reason = picks.places()
    every = [*kept, *(place for places in by_reason.values() for place in places)]
    files: dict[str, list[Place]] = {}
    for place in every:
        path = documents[place.unit] if place.job is None else rejected[place.job][place.unit]
        files.setdefault(path, []).append(place)
    read = dict(pair for pairs in read_ahead(_read_places, files.items(), _READERS) for pair in pairs)
    reasons = [
        {"stage": stage, "reason": reason, "samples": [read[place] for place in places]}
        for (stage, reason), places in by_reason.items()
    ]
    return {"kept": [read[place] for place in kept], "rejected": reasons}


def _read_places(item: tuple[str, list[Place]]) -> list[tuple[Place, dict[str, Any]]]:
    path, places = item
    rows = dict(_read_rows(path, sorted({place.row for place in places})))
    return [(place, _sample(rows[place.row], place)) for place in places]


def _read_rows(path: str, rows: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, its columns) of a Parquet file; reads only the row groups that hold one."""
    import pyarrow.parquet as pq

    with storage.open_read(path) as opened:
        file = pq.ParquetFile(opened)
        first = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            inside = [row - first for row in rows if first <= row < first + count]
            if inside:
                for row, columns in zip(inside, file.read_row_group(group).take(inside).to_pylist(), strict=True):
                    yield first + row, columns
            first += count


def _sample(row: Mapping[str, Any], place: Place) -> dict[str, Any]:
    metadata = json.loads(row["metadata"])
    notes = [f"duplicate of {metadata['duplicate_of']}"] if "duplicate_of" in metadata else []
    if not row["text"]:
        notes.append(
            f"{metadata.get('file', '')} at byte {metadata.get('offset', 0)} {metadata.get('detail', '')}".strip()
        )
    return {
        "id": row["id"],
        "url": row["url"],
        "language": row["language"],
        "text": row["text"][:CHARACTERS],
        "characters": len(row["text"]),
        "value": row.get("value"),
        "threshold": place.threshold,
        "near": place.near,
        "note": "; ".join(notes),
    }
