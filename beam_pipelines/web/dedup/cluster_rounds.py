"""Connected components by rounds of jobs, for more edges than one task can hold.

Large-star and small-star (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii: Connected Components in MapReduce and
Beyond, SoCC 2014), in turn until neither changes anything; every document but a cluster's first then has one edge, to
that first. O(log^2 n) rounds, in practice a handful; the edges never grow in number. A part of a round holds the edges
at one range of hashed document numbers, a share of all; but all edges at one document, 16 bytes each, are in one part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import ShuffleJob, run_job
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.corpus_stage import Corpus
from beam_pipelines.web.dedup.hashing import mix, range_of
from beam_pipelines.web.dedup.key_edges import EARLIER, ROW_BITS, read_edges, write_edges
from t5x_style.files import fingerprint


class Rounds:
    """The jobs that join the edges of one stage; each has a subfolder of the stage's job.

    Attributes:
      corpus: carries the jobs.
      key: fingerprint of everything the edges depend on.
      name, folder: of the stage's job.
      ranges: parts of a round.
    """

    def __init__(self, corpus: Corpus, key: str, name: str, folder: str, ranges: int):
        self._corpus, self._name, self._folder, self._ranges = corpus, name, folder, ranges
        self._key = fingerprint([key, ranges])

    def run(self, edges: str, parts: Sequence[str]) -> tuple[str, list[str]]:
        """From a folder of edges and its files' names to a folder of labels and its files' names, in order."""
        first = self._units(parts, edges)
        sources, changed, count = first, 1, 0
        while changed:
            changed = 0
            for star in ("large", "small"):
                function = _Star(star == "large", len(sources))
                sources, found = self._round(f"{star}-star-{count:02d}", sources, function)
                changed += found
            count += 1
        return self._labels(sources, first)

    def _round(self, step: str, sources: Sequence[Unit], star: _Star) -> tuple[list[Unit], int]:
        """One job: (units of the edges it left, changes)."""
        names = [f"{part:05d}" for part in range(self._ranges)]
        emit = EmitNeighbours(self._ranges, star.large)
        folder, results = self._shuffle(step, sources, names, emit, lambda folder: StarEdges(folder, star))
        return self._units(names, folder), sum(result["changed"] for result in results.values())

    def _labels(self, sources: Sequence[Unit], first: Sequence[Unit]) -> tuple[str, list[str]]:
        """The last job: stars to labels in the order of the documents; what repeats an earlier run joins in."""
        units = len(self._corpus.units)
        names = [f"{part:05d}" for part in range(max(1, min(self._ranges, units)))]
        earlier = [
            Unit(f"earlier-{unit.name}", self._key, {**unit.arguments, "index": len(sources) + index, "earlier": True})
            for index, unit in enumerate(first)
        ]
        everything = [*sources, *earlier]
        emit = EmitLabels(len(names), units)
        folder, _ = self._shuffle("labels", everything, names, emit, lambda folder: SortLabels(folder, len(everything)))
        return folder, names

    def _units(self, names: Sequence[str], folder: str) -> list[Unit]:
        arguments = [{"index": index, "folder": folder, "file": name} for index, name in enumerate(names)]
        return [Unit(name, self._key, own) for name, own in zip(names, arguments, strict=True)]

    def _shuffle(
        self,
        step: str,
        sources: Sequence[Unit],
        names: Sequence[str],
        emit: Callable[..., Iterable[tuple[int, tuple[int, bytes]]]],
        make: Callable[[str], Callable[..., None]],
    ) -> tuple[str, Mapping[str, Mapping[str, Any]]]:
        folder = storage.join(self._folder, step)
        units = [Unit(name, self._key) for name in names]
        described = self._corpus.described
        job = ShuffleJob(f"{self._name} {step}", folder, units, described, make(folder), sources=sources, emit=emit)
        return folder, run_job(self._corpus.runner, job)


def _read(source: Unit) -> np.ndarray:
    return read_edges(source.arguments["folder"], source.arguments["file"])


def _blocks(
    pairs: np.ndarray, part_of: np.ndarray, ranges: int, source: Unit, wanted: frozenset[int]
) -> Iterable[tuple[int, tuple[int, bytes]]]:
    """Distinct pairs of every wanted part, ascending, as a block."""
    order = np.lexsort((pairs[:, 1], pairs[:, 0], part_of))
    pairs, part_of = pairs[order], part_of[order]
    bounds = np.searchsorted(part_of, np.arange(ranges + 1))
    for part in sorted(wanted):
        own = pairs[bounds[part] : bounds[part + 1]]
        yield part, (source.arguments["index"], own[_distinct(own)].tobytes())


def _distinct(pairs: np.ndarray) -> np.ndarray:
    """bool [k]: whether each of [k, 2] ascending pairs differs from the one before."""
    return np.concatenate([np.ones(min(1, len(pairs)), bool), (pairs[1:] != pairs[:-1]).any(axis=1)])


def _sorted_pairs(unit: Unit, blocks: Sequence[tuple[int, bytes]], sources: int) -> np.ndarray:
    """uint64 [k, 2]: the distinct pairs of all blocks, ascending.

    Raises:
      RuntimeError: the runner lost or doubled a block.
    """
    if [index for index, _ in blocks] != list(range(sources)):
        raise RuntimeError(f"shuffle part {unit.name}: {len(blocks)} blocks of {sources} sources came through")
    pairs = np.frombuffer(b"".join(block for _, block in blocks), np.uint64).reshape(-1, 2)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[_distinct(pairs)]


@dataclass(frozen=True)
class EmitNeighbours:
    """A file of edges as pairs (document, neighbour), to the part of the document's hash.

    Attributes:
      ranges: parts.
      both_ways: whether each edge is seen from both ends, as large-star needs it, or from its larger one.
    """

    ranges: int
    both_ways: bool

    def __call__(self, source: Unit, wanted: frozenset[int]) -> Iterable[tuple[int, tuple[int, bytes]]]:
        """Yields (part, (the source's index, block)); see `units.ShuffleJob`."""
        edges = _read(source)
        edges = edges[edges[:, 0] != EARLIER]
        smaller, larger = edges.min(axis=1), edges.max(axis=1)
        pairs = np.stack([larger, smaller], axis=1)
        if self.both_ways:
            pairs = np.concatenate([pairs, np.stack([smaller, larger], axis=1)])
        yield from _blocks(pairs, range_of(mix(pairs[:, 0]), self.ranges), self.ranges, source, wanted)


@dataclass(frozen=True)
class _Star:
    """Which of the two operations, and how many sources its blocks come from."""

    large: bool
    sources: int


@dataclass(frozen=True)
class StarEdges:
    """One part of a round: neighbours to new edges."""

    folder: str
    star: _Star

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes the edges and how many documents' edges changed."""
        pairs = _sorted_pairs(unit, blocks, self.star.sources)
        edges, changed = large_star(pairs) if self.star.large else small_star(pairs)
        write_edges(self.folder, unit, edges, 0, changed=changed)


def large_star(pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Links every document's larger neighbours to its smallest one, or to itself if it is smaller.

    Args:
      pairs: uint64 [k, 2] distinct (document, neighbour), ascending.

    Returns:
      uint64 [m, 2] edges (smaller, larger), and how many documents have both larger and smaller neighbours.

    Example: neighbours 1 and 9 of 5 -> edge (1, 9), one change; the edge (1, 5) is kept by the part that has 1.
    """
    first, group = _groups(pairs)
    smallest = np.minimum(pairs[first, 1], pairs[first, 0])[group]
    larger = pairs[:, 1] > pairs[:, 0]
    changed = larger & (smallest < pairs[:, 0])
    return np.stack([smallest[larger], pairs[larger, 1]], axis=1), len(np.unique(pairs[changed, 0]))


def small_star(pairs: np.ndarray) -> tuple[np.ndarray, int]:
    """Links every document and its smaller neighbours to the smallest of them.

    Args:
      pairs: uint64 [k, 2] distinct (document, smaller neighbour), ascending.

    Returns:
      uint64 [m, 2] edges (smaller, larger), and how many documents have more than one smaller neighbour.

    Example: smaller neighbours 1 and 3 of 5 -> edges (1, 3) and (1, 5), one change.
    """
    first, group = _groups(pairs)
    smallest = pairs[first, 1]
    others = np.ones(len(pairs), bool)
    others[first] = False
    own = np.stack([smallest, pairs[first, 0]], axis=1)
    between = np.stack([smallest[group[others]], pairs[others, 1]], axis=1)
    return np.concatenate([own, between]), len(np.unique(pairs[others, 0]))


def _groups(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [groups] where the pairs of each document begin, int64 [k] each pair's group)."""
    starts = np.concatenate([np.ones(min(1, len(pairs)), bool), pairs[1:, 0] != pairs[:-1, 0]])
    return np.flatnonzero(starts), np.cumsum(starts) - 1


@dataclass(frozen=True)
class EmitLabels:
    """A file of stars as pairs (document, first of its cluster), to the part of the document's unit.

    Of a source that is marked `earlier`, only what repeats an earlier run.
    """

    ranges: int
    units: int

    def __call__(self, source: Unit, wanted: frozenset[int]) -> Iterable[tuple[int, tuple[int, bytes]]]:
        """Yields (part, (the source's index, block)); see `units.ShuffleJob`."""
        edges = _read(source)
        if source.arguments.get("earlier"):
            pairs = edges[edges[:, 0] == EARLIER][:, ::-1]
        else:
            pairs = np.concatenate([edges[:, ::-1], edges[:, [0, 0]]])
        part_of = (pairs[:, 0] >> ROW_BITS) * np.uint64(self.ranges) // np.uint64(self.units)
        yield from _blocks(pairs, part_of.astype(np.int64), self.ranges, source, wanted)


@dataclass(frozen=True)
class SortLabels:
    """One part of the last job: labels of neighbouring units, ascending."""

    folder: str
    sources: int

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes uint64 [k, 2] (document, first)."""
        pairs = _sorted_pairs(unit, blocks, self.sources)
        with storage.atomic_writer(storage.join(self.folder, f"{unit.name}.labels.npy")) as file:
            np.save(file, pairs, allow_pickle=False)
        write_result(self.folder, unit, {"documents": len(pairs)})
