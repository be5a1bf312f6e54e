"""Deduplication as two jobs over key files: equal keys to edges, edges to clusters.

No text is moved: a map job leaves, beside each unit's documents, a file of keys; the shuffle carries sorted blocks of
(key, row); one reducer joins the edges. Of every cluster the first document in input order (file, row) stays, whatever
the runner and the number of workers.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from beam_pipelines import storage
from beam_pipelines.units import Unit, write_result
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.document import Document, Outcome, Verdict
from t5x_style.files import fingerprint

KEY_BATCH = 1000
ROW_BITS = np.uint64(32)  # a document's number: its unit's index in the high bits, its row in the low
DROP = np.dtype([("document", np.uint64), ("keeper", "S32")])


class KeyDedup(abc.ABC):
    """Base of the stages that drop documents for a key that others hold: a frozen dataclass of these and `keys`."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """See `Stage`."""

    @property
    @abc.abstractmethod
    def bands(self) -> int:
        """Keys per document; two documents are joined if they share the key of one band."""

    @property
    @abc.abstractmethod
    def width(self) -> int:
        """64-bit words per key."""

    @property
    @abc.abstractmethod
    def hash_ranges(self) -> int:
        """Parts of the shuffle per band."""

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """The rejected documents' reason."""

    @abc.abstractmethod
    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [k] positions in `documents`, uint64 [k, bands, width] their keys)."""

    def start(self, file: IO[bytes]) -> BatchedKeys:
        """See `CorpusStage`."""
        return BatchedKeys(self, file)

    def find(self, corpus: Corpus) -> Findings:
        """See `CorpusStage`: a shuffle from keys to edges, one reducer from edges to documents to drop."""
        parts = [Unit(f"{part:05d}", corpus.key) for part in range(self.bands * self.hash_ranges)]
        emit = EmitKeys(corpus.keys, self.bands, self.width, self.hash_ranges)
        edges, _ = corpus.shuffle(parts, emit, lambda folder: WriteEdges(folder, self.width, len(corpus.units)))
        names, sources = [part.name for part in parts], [unit.name for unit in corpus.units]
        folder, results = corpus.map(
            [Unit("clusters", corpus.key)],
            lambda folder: JoinClusters(folder, edges, names, corpus.documents, sources),
        )
        ranges = {name: tuple(found) for name, found in results["clusters"]["ranges"].items()}
        return Findings(storage.join(folder, "drops.bin"), ranges)

    def load(self, path: str, start: int, stop: int) -> Mapping[int, str]:
        """See `CorpusStage`: {row: id of the document that it repeats}."""
        return read_drops(path, start, stop)

    def apply_finding(self, document: Document, finding: str | None) -> Outcome:
        """See `CorpusStage`."""
        if finding is None:
            return Outcome(document)
        metadata = {**json.loads(document.metadata), "duplicate_of": finding}
        return Outcome(document.replace(metadata=json.dumps(metadata, ensure_ascii=False)), Verdict(self.reason))


class BatchedKeys:
    """Writes the keys of a unit's documents, computed in batches."""

    def __init__(self, stage: KeyDedup, file: IO[bytes]):
        self._stage, self._file = stage, file
        self._batch: list[Document] = []
        self._count = 0
        self._rows: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._keys = [np.zeros((0, stage.bands, stage.width), np.uint64)]

    def add(self, document: Document) -> None:
        """See `KeyWriter`."""
        self._batch.append(document)
        if len(self._batch) >= KEY_BATCH:
            self._flush()

    def close(self) -> None:
        """See `KeyWriter`."""
        self._flush()
        write_keys(self._file, np.concatenate(self._rows), np.concatenate(self._keys))

    def _flush(self) -> None:
        rows, keys = self._stage.keys(self._batch)
        self._rows.append(rows.astype(np.int64) + self._count)
        self._keys.append(keys)
        self._count += len(self._batch)
        self._batch.clear()


def write_keys(file: IO[bytes], rows: np.ndarray, keys: np.ndarray) -> None:
    """Writes rows [k] and keys [k, bands, width] of one unit."""
    np.save(file, rows, allow_pickle=False)
    np.save(file, keys, allow_pickle=False)


@dataclass(frozen=True)
class EmitKeys:
    """A unit's keys as one sorted block per part of the shuffle; a part is one range of hashes of one band.

    A block is uint64 [k, width + 1], the row last, sorted by key and row.
    """

    folder: str
    bands: int
    width: int
    ranges: int

    def __call__(self, source: Unit, wanted: frozenset[int]) -> Iterable[tuple[int, tuple[int, bytes]]]:
        """Yields (part, (the unit's index, block)) for the wanted parts, also where a block is empty."""
        with storage.open_read(storage.join(self.folder, f"{source.name}.keys")) as file:
            rows, keys = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
        for band in range(self.bands):
            if not any(band * self.ranges + part in wanted for part in range(self.ranges)):
                continue
            block = np.concatenate([keys[:, band, :], rows[:, None].astype(np.uint64)], axis=1)
            block = block[np.lexsort(block.T[::-1])]
            part_of = (block[:, 0] >> np.uint64(32)) * np.uint64(self.ranges) >> np.uint64(32)
            bounds = np.searchsorted(part_of, np.arange(self.ranges + 1, dtype=np.uint64))
            for part in range(self.ranges):
                if band * self.ranges + part in wanted:
                    rows_of_part = block[bounds[part] : bounds[part + 1]]
                    yield band * self.ranges + part, (source.arguments["index"], rows_of_part.tobytes())


@dataclass(frozen=True)
class WriteEdges:
    """One part of the shuffle: from sorted blocks to edges (first document with a key, another one with it)."""

    folder: str
    width: int
    sources: int

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes uint64 [m, 2] edges.

        Raises:
          RuntimeError: the runner lost or doubled a block.
        """
        if [index for index, _ in blocks] != list(range(self.sources)):
            raise RuntimeError(f"shuffle part {unit.name}: {len(blocks)} blocks of {self.sources} sources came through")
        edges = equal_key_edges([np.frombuffer(b, np.uint64).reshape(-1, self.width + 1) for _, b in blocks])
        with storage.atomic_writer(storage.join(self.folder, f"{unit.name}.edges.npy")) as file:
            np.save(file, edges, allow_pickle=False)
        write_result(self.folder, unit, {"edges": len(edges)})


def equal_key_edges(blocks: Sequence[np.ndarray]) -> np.ndarray:
    """uint64 [m, 2] (first, other) document numbers of rows with equal keys.

    Args:
      blocks: one per unit, in the units' order: [k, width + 1], key words and row.

    Example: two units [[7, 0]] and [[7, 0], [8, 1]] -> [[0, 2**32]].
    """
    documents = [block[:, -1] | (np.uint64(index) << ROW_BITS) for index, block in enumerate(blocks)]
    document = np.concatenate(documents) if documents else np.zeros(0, np.uint64)
    if len(document) < 2:
        return np.zeros((0, 2), np.uint64)
    keys = np.concatenate([block[:, :-1] for block in blocks])
    order = np.lexsort((document, *keys.T[::-1]))
    document, keys = document[order], keys[order]
    same = np.concatenate([[False], (keys[1:] == keys[:-1]).all(axis=1)])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(document))))
    return np.stack([document[first[same]], document[same]], axis=1)


def clusters(edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Connected components of uint64 [m, 2] edges: (documents to drop, sorted; the smallest of each one's cluster).

    Example: [[1, 2], [2, 5], [7, 9]] -> ([2, 5, 9], [1, 1, 7]).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    documents, index = np.unique(edges, return_inverse=True)
    index = index.reshape(edges.shape)
    graph = coo_array((np.ones(len(edges), np.int8), (index[:, 0], index[:, 1])), shape=(len(documents),) * 2)
    count, label = connected_components(graph, directed=False)
    smallest = np.full(count, len(documents), np.int64)
    np.minimum.at(smallest, label, np.arange(len(documents)))
    keeper = documents[smallest[label]]
    dropped = keeper != documents
    return documents[dropped], keeper[dropped]


@dataclass(frozen=True)
class JoinClusters:
    """The one reducer: all edges to the list of documents to drop, with the id of the one that each repeats.

    Attributes:
      folder: where the drops go.
      edges: folder of the shuffle's edges.
      parts: names of the shuffle's parts.
      documents: folder of the units' documents.
      sources: the units' names, in order.
    """

    folder: str
    edges: str
    parts: Sequence[str]
    documents: str
    sources: Sequence[str]

    def __call__(self, unit: Unit) -> None:
        """Writes `drops.bin` and the range of it that belongs to each source unit."""
        edges = []
        for part in self.parts:
            with storage.open_read(storage.join(self.edges, f"{part}.edges.npy")) as file:
                edges.append(np.load(file, allow_pickle=False))
        dropped, keeper = clusters(np.concatenate(edges))
        drops = np.zeros(len(dropped), DROP)
        drops["document"], drops["keeper"] = dropped, self._ids(keeper)
        limits = np.arange(len(self.sources) + 1, dtype=np.uint64) << ROW_BITS
        bounds = np.searchsorted(dropped, limits).tolist()
        with storage.atomic_writer(storage.join(self.folder, "drops.bin")) as file:
            file.write(drops.tobytes())
        ranges = {}
        for index, name in enumerate(self.sources):
            own = drops[bounds[index] : bounds[index + 1]].copy()
            own["document"] &= (np.uint64(1) << ROW_BITS) - np.uint64(1)
            ranges[name] = [bounds[index], bounds[index + 1], fingerprint(own.tobytes().hex())]
        write_result(self.folder, unit, {"dropped": len(dropped), "ranges": ranges})

    def _ids(self, documents: np.ndarray) -> np.ndarray:
        """Ids of documents by their numbers; reads the id column of the units they lie in."""
        import pyarrow.parquet as parquet

        ids = np.zeros(len(documents), "S32")
        owner = documents >> ROW_BITS
        for index in np.unique(owner):
            mine = owner == index
            with storage.open_read(storage.join(self.documents, f"{self.sources[int(index)]}.parquet")) as file:
                column = parquet.read_table(file, columns=["id"]).column("id").to_numpy(zero_copy_only=False)
            rows = (documents[mine] & ((np.uint64(1) << ROW_BITS) - np.uint64(1))).astype(np.int64)
            ids[mine] = column[rows].astype("S32")
        return ids


def read_drops(path: str, start: int, stop: int) -> dict[int, str]:
    """{row of a unit: id of the document it repeats} from a range of `drops.bin`."""
    with storage.open_read(path) as file:
        file.seek(start * DROP.itemsize)
        drops = np.frombuffer(file.read((stop - start) * DROP.itemsize), DROP)
    rows = (drops["document"] & ((np.uint64(1) << ROW_BITS) - np.uint64(1))).tolist()
    return dict(zip(rows, (name.decode() for name in drops["keeper"].tolist()), strict=True))
