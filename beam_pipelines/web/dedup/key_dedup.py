"""Deduplication by keys: documents that hold the same key are joined, and of every cluster the first one stays.

No text is moved: a map job leaves, beside each unit's documents, a file of keys; a shuffle carries sorted blocks of
(key, row) and leaves edges (see `key_edges`); the edges are joined to clusters (see `clusters`). The document that
stays is the first in input order (file, row), whatever the runner and the number of workers.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import numpy as np

from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.dedup.clusters import Edges, find_clusters, read_drops
from beam_pipelines.web.dedup.key_edges import EmitKeys, WriteEdges, write_keys
from beam_pipelines.web.document import Document, Outcome, Verdict
from t5x_style.errors import UserError

KEY_BATCH = 1000
KEY_BATCH_CHARACTERS = 8_000_000  # with their words about 100 bytes each
MAX_EDGES_IN_MEMORY = 50_000_000  # see KeyDedup; about 5 GB


class KeyDedup(abc.ABC):
    """Base of the stages that drop documents for a key that others hold: a frozen dataclass of these and `keys`.

    Ids of all documents in a cluster of two or more go to DIR/clusters/<name>.parquet (see `clusters`).
    """

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
    def key_bits(self) -> int:
        """Leading bits of a key's first word that decide which documents meet."""
        return 64

    @property
    @abc.abstractmethod
    def hash_ranges(self) -> int:
        """Parts of the shuffle per band."""

    @property
    @abc.abstractmethod
    def max_edges_in_memory(self) -> int:
        """Up to this many edges (or documents, if there are fewer) one task joins them all; beyond, rounds of jobs.

        The task needs about 100 bytes of memory an edge. Both ways find the same clusters.
        """

    @property
    @abc.abstractmethod
    def reason(self) -> str:
        """The rejected documents' reason."""

    @abc.abstractmethod
    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """(int64 [k] positions in `documents`, ascending; uint64 [k, bands, width] their keys)."""

    def edge_writer(self, corpus: Corpus) -> Callable[[str], Callable[..., None]]:
        """make(folder) -> the function of a part of the shuffle (see `key_edges.WriteEdges`)."""
        return lambda folder: WriteEdges(folder, self.width, len(corpus.units))

    def key(self, corpus: Corpus) -> str:
        """Fingerprint of everything that the edges depend on."""
        return corpus.key

    def start(self, file: IO[bytes]) -> BatchedKeys:
        """See `CorpusStage`."""
        return BatchedKeys(self, file)

    def find(self, corpus: Corpus) -> Findings:
        """See `CorpusStage`: a shuffle from keys to edges, then edges to documents to drop."""
        return self.find_edges(corpus)[0]

    def find_edges(self, corpus: Corpus) -> tuple[Findings, Mapping[str, Mapping[str, Any]]]:
        """`find`, and the results of the shuffle's parts."""
        key = self.key(corpus)
        parts = [Unit(f"{part:05d}", key) for part in range(self.bands * self.hash_ranges)]
        emit = EmitKeys(corpus.keys, self.bands, self.width, self.hash_ranges, self.key_bits)
        folder, results = corpus.shuffle(parts, emit, self.edge_writer(corpus))
        counts = [(result["edges"], result["documents"]) for result in results.values()]
        total, documents = map(sum, zip(*counts, strict=True))
        edges = Edges(folder, [part.name for part in parts], total, documents // self.bands)
        return find_clusters(corpus, key, self.name, edges, self.max_edges_in_memory), results

    def load(self, path: str, start: int, stop: int) -> Mapping[int, str]:
        """See `CorpusStage`: {row: id of the document that it repeats}."""
        return read_drops(path, start, stop)

    def apply_finding(self, document: Document, finding: str | None) -> Outcome:
        """See `CorpusStage`."""
        if finding is None:
            return Outcome(document)
        metadata = {**json.loads(document.metadata), "duplicate_of": finding}
        return Outcome(document.replace(metadata=json.dumps(metadata, ensure_ascii=False)), Verdict(self.reason))


def check_positive(stage: Any, *fields: str) -> None:
    """Raises UserError for the first of the stage's whole-number fields that is below 1 or no whole number."""
    for field in fields:
        value = getattr(stage, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{type(stage).__name__}.{field} must be a whole number of at least 1, not {value!r}")


class BatchedKeys:
    """Writes the keys of a unit's documents, computed in batches; holds 8 bytes a word of key until the unit ends."""

    def __init__(self, stage: KeyDedup, file: IO[bytes]):
        self._stage, self._file = stage, file
        self._batch: list[Document] = []
        self._characters = 0  # of the batch
        self._count = 0
        self._rows: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._keys = [np.zeros((0, stage.bands, stage.width), np.uint64)]

    def add(self, document: Document) -> None:
        """See `KeyWriter`."""
        self._batch.append(document)
        self._characters += len(document.text)
        if len(self._batch) >= KEY_BATCH or self._characters >= KEY_BATCH_CHARACTERS:
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
        self._characters = 0
