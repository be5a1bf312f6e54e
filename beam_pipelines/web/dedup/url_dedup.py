"""Deduplication by address, within a run and against the runs before it (RefinedWeb, section G.3).

Crawls visit the same addresses again; what an earlier dump gave need not be read twice. Every run leaves the addresses
it kept, united with those it was given, in DIR/url_store; the next run names that folder in `store`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.dedup.hashing import text_hashes
from beam_pipelines.web.dedup.key_dedup import MAX_EDGES_IN_MEMORY, KeyDedup, check_positive
from beam_pipelines.web.dedup.key_edges import EARLIER, equal_key_edges, join_blocks, sort_order, write_edges
from beam_pipelines.web.dedup.url_store import UrlStore, open_store, read_part, spelling, write_manifest, write_part
from beam_pipelines.web.document import Document, Outcome, Verdict
from beam_pipelines.web.urls.url_normal import normalise_url
from t5x_style.errors import UserError
from t5x_style.files import fingerprint


@dataclass(frozen=True)
class UrlDedup(KeyDedup):
    """Drops documents whose address, normalised (see `url_normal`), came before: `duplicate_url`, or
    `seen_in_earlier_dump` if a store has it. Documents without an address are kept.

    The addresses in DIR/url_store are those that this stage keeps, whatever later stages say of their documents: it
    is a question of where it stands in the recipe whether a page that was once rejected gets another chance. 20 bytes a
    document in the shuffle.

    Attributes:
      store: the url_store folder of an earlier run, local or remote, or several.
      hash_ranges: parts of the shuffle and of the new store; a part needs about 100 bytes of memory for each of its
        addresses, carried ones included: 1 GB for a billion addresses in 100 parts, which is what RefinedWeb had.
      max_edges_in_memory: see `KeyDedup`.

    Raises:
      UserError: a number below 1, or a folder without a store.
    """

    store: str | Sequence[str] = ""
    hash_ranges: int = 100
    max_edges_in_memory: int = MAX_EDGES_IN_MEMORY
    name: str = "url_dedup"

    reason: ClassVar[str] = "duplicate_url"
    earlier_reason: ClassVar[str] = "seen_in_earlier_dump"
    bands: ClassVar[int] = 1
    width: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_positive(self, "hash_ranges", "max_edges_in_memory")
        folders = [self.store] if isinstance(self.store, str) else list(self.store)
        object.__setattr__(self, "store", tuple(folder for folder in folders if folder))
        self.stores()

    def stores(self) -> list[UrlStore]:
        """Reads the stores' manifests."""
        return [open_store(folder) for folder in self.store]

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: one key, of two words, for every document with an address."""
        urls = [normalise_url(document.url) for document in documents]
        rows = [row for row, url in enumerate(urls) if url]
        return np.array(rows, np.int64), text_hashes([urls[row] for row in rows])[:, None]

    def key(self, corpus: Corpus) -> str:
        """See `KeyDedup`: another content of a store makes other edges."""
        return fingerprint([corpus.key, [store.identity for store in self.stores()]])

    def edge_writer(self, corpus: Corpus) -> Callable[[str], Callable[..., None]]:
        """See `KeyDedup`."""
        target, stores = self._target(corpus), self.stores()
        return lambda folder: UrlEdges(folder, len(corpus.units), self.hash_ranges, target, stores)

    def find(self, corpus: Corpus) -> Findings:
        """See `KeyDedup`; also completes the new store.

        Raises:
          UserError: the run's own store is given to it.
        """
        target, stores = self._target(corpus), self.stores()
        for store in stores:
            if _same_folder(store.folder, target):
                raise UserError(f"UrlDedup.store: {store.folder} is what this run writes; give an earlier run's folder")
            if store.spelling != spelling():
                logging.warning(
                    "%s: made with other rules for addresses; those that are spelt differently now pass as new",
                    store.folder,
                )
        found, results = self.find_edges(corpus)
        write_manifest(target, [(result["urls"], result["digest"]) for result in results.values()])
        return found

    def apply_finding(self, document: Document, finding: str | None) -> Outcome:
        """See `CorpusStage`."""
        if finding == "":
            return Outcome(document, Verdict(self.earlier_reason))
        return super().apply_finding(document, finding)

    def _target(self, corpus: Corpus) -> str:
        """The new store: url_store, with the stage's name where it has one of its own."""
        name = "url_store" if self.name == "url_dedup" else f"url_store-{self.name}"
        return storage.join(corpus.output, name)


def _same_folder(one: str, other: str) -> bool:
    if storage.is_local(one) and storage.is_local(other):
        return os.path.realpath(one) == os.path.realpath(other)
    return one.rstrip("/") == other.rstrip("/")


@dataclass(frozen=True)
class UrlEdges:
    """One part of the shuffle: edges between documents of one address, and one part of the new store.

    Attributes:
      folder: of the edges.
      sources: units.
      parts: of the shuffle.
      target: folder of the new store.
      stores: those of earlier runs.
    """

    folder: str
    sources: int
    parts: int
    target: str
    stores: Sequence[UrlStore]

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes the part of the store, the edges and the result; see `key_edges.WriteEdges`."""
        part = int(unit.name)
        keys, documents = join_blocks(unit, blocks, 2, self.sources)
        seen, union = unite(read_part(self.stores, part, self.parts), keys)
        digest = write_part(self.target, part, union)
        repeats = documents[seen]
        earlier = np.stack([np.full(len(repeats), EARLIER), repeats], axis=1)
        edges = np.concatenate([equal_key_edges(keys[~seen], documents[~seen]), earlier])
        write_edges(self.folder, unit, edges, len(documents), urls=len(union), digest=digest)


def unite(carried: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is new: (bool [k] which keys were carried, uint64 [n, 2] both together, distinct and ascending).

    Args:
      carried: uint64 [m, 2], in any order, with repetitions.
      keys: uint64 [k, 2].

    Example: carried [[1, 2]], keys [[1, 2], [1, 3], [1, 3]] -> [True, False, False], [[1, 2], [1, 3]].
    """
    both = np.concatenate([carried, keys])
    order = sort_order(both)  # stable: of equal ones a carried one comes first
    ordered = both[order]
    starts = np.concatenate([np.ones(min(1, len(both)), bool), (ordered[1:] != ordered[:-1]).any(axis=1)])
    was_carried = (order < len(carried))[starts][np.cumsum(starts) - 1]
    seen = np.zeros(len(both), bool)
    seen[order] = was_carried
    return seen[len(carried) :], ordered[starts]
