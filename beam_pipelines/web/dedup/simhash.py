"""SimHash (Charikar 2002; for web pages: Manku, Jain, Das Sarma 2007): near-duplicates by one 64-bit number each.

Bit i of a document's hash is what most of its n-grams have in bit i of theirs. Two documents are joined if their hashes
differ in at most `distance` bits. All such pairs are found, and no others: the 64 bits are cut into `blocks`; of two
hashes that differ in at most `distance` bits, at least blocks - distance blocks are equal. Each choice of that many
blocks is a table (a band of the shuffle) keyed by their bits; what meets there is compared by the whole hash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from beam_pipelines.web.corpus_stage import Corpus
from beam_pipelines.web.dedup.clusters import join_in_memory
from beam_pipelines.web.dedup.key_dedup import MAX_EDGES_IN_MEMORY, KeyDedup, check_positive
from beam_pipelines.web.dedup.key_edges import WriteEdges, equal_key_edges
from beam_pipelines.web.dedup.shingles import shingle_hashes
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError

_BITS = 64
_SHINGLES_AT_ONCE = 65_536  # 64 bytes each
_EDGES_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class SimHashDedup(KeyDedup):
    """Drops documents whose hash differs in few bits from an earlier one's, directly or through others.

    A document costs 12 bytes a table in the shuffle: 48 with 4 blocks and distance 3. A table's part compares all pairs
    that agree in its key: with 16 bits of key 3 * 10^7 pairs a table and million documents, growing as the square; more
    blocks give longer keys and more tables: 4 blocks 4 tables of 16 bits, 5 blocks 10 of 25, 6 blocks 20 of 31.

    Attributes:
      distance: bits in which two hashes may differ; 3 of 64 is what Manku et al. chose for 8 billion pages.
      blocks: see the module; more than `distance`.
      ngram: words in a shingle; each occurrence counts. At 2, of 536 real pages with 1% of the words exchanged 67% were
        within distance 3 of the original (1: 99%, 3: 42%, 5: 16%), and the closest two different pages were 14 bits
        apart (1: 2 bits, 3: 14, 5: 14).
      hash_ranges: parts of the shuffle per table; a part needs about 60 bytes of memory a document.
      max_edges_in_memory: see `KeyDedup`.

    Raises:
      UserError: a number out of its range.
    """

    distance: int = 3
    blocks: int = 4
    ngram: int = 2
    hash_ranges: int = 4
    max_edges_in_memory: int = MAX_EDGES_IN_MEMORY
    name: str = "simhash_dedup"

    reason: ClassVar[str] = "near_duplicate"
    width: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive(self, "blocks", "ngram", "hash_ranges", "max_edges_in_memory")
        if isinstance(self.distance, bool) or not isinstance(self.distance, int) or self.distance < 0:
            raise UserError(f"SimHashDedup.distance must be a whole number of at least 0, not {self.distance!r}")
        if not self.distance < self.blocks <= _BITS:
            raise UserError(
                f"SimHashDedup.blocks must be more than distance ({self.distance}) and at most 64, not {self.blocks}"
            )
        if self.bands > 1000:
            raise UserError(f"SimHashDedup: {self.blocks} blocks and distance {self.distance} make {self.bands} tables")

    @property
    def bands(self) -> int:
        """One table for every choice of blocks."""
        return math.comb(self.blocks, self.distance)

    @property
    def key_bits(self) -> int:
        """Bits in the key of the table with the shortest one."""
        return sum(sorted(_sizes(self.blocks))[: self.blocks - self.distance])

    def edge_writer(self, corpus: Corpus) -> Callable[[str], Callable[..., None]]:
        """See `KeyDedup`."""
        return lambda folder: NearEdges(folder, self.width, len(corpus.units), self.key_bits, self.distance)

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: the hash with each table's bits in front; documents without a word have none."""
        rows = [row for row, document in enumerate(documents) if document.normalised_words]
        hashes = np.array([simhash(documents[row].normalised_words, self.ngram) for row in rows], np.uint64)
        chosen = combinations(range(self.blocks), self.blocks - self.distance)
        tables = [blocks_in_front(hashes, front, self.blocks) for front in chosen]
        return np.array(rows, np.int64), np.stack(tables, axis=1)[..., None]


def simhash(words: Sequence[str], ngram: int) -> int:
    """The 64-bit SimHash of a text's n-grams; a bit that as many have as have not is 0."""
    shingles = shingle_hashes(words, ngram)
    counts = np.zeros(_BITS, np.int64)
    for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
        part = np.ascontiguousarray(shingles[start : start + _SHINGLES_AT_ONCE], "<u8")
        bits = np.unpackbits(part.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")  # [shingles, 64]
        counts += bits.sum(axis=0, dtype=np.int64)
    return int(np.packbits(2 * counts > len(shingles), bitorder="little").view("<u8")[0])


def _sizes(blocks: int) -> list[int]:
    """Bits of each block, from the lowest: 64 cut as evenly as can be."""
    return [_BITS * (index + 1) // blocks - _BITS * index // blocks for index in range(blocks)]


def blocks_in_front(hashes: np.ndarray, front: Sequence[int], blocks: int) -> np.ndarray:
    """uint64: hashes with the `front` of their blocks moved to the high end; the same bits in another order.

    Example: 4 blocks of 16 bits, front (0,): 0x0123_4567_89AB_CDEF -> 0xCDEF_89AB_4567_0123.
    """
    sizes = _sizes(blocks)
    result = np.zeros_like(hashes)
    for block in (*front, *(block for block in range(blocks) if block not in front)):
        shift, size = np.uint64(sum(sizes[:block])), np.uint64(sizes[block])
        mask = np.uint64(2 ** sizes[block] - 1)
        result = (hashes >> shift & mask) if sizes[block] == _BITS else result << size | (hashes >> shift & mask)
    return result


@dataclass(frozen=True)
class NearEdges(WriteEdges):
    """One part of the shuffle: edges between all hashes that agree in `key_bits` and differ in at most `distance`.

    They are left as one edge a document, to the first of those it hangs together with.
    """

    key_bits: int
    distance: int

    def edges(self, keys: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """See `WriteEdges`."""

        def blocks() -> Iterator[np.ndarray]:
            yield equal_key_edges(keys, documents)
            hashes, first = np.unique(keys[:, 0], return_index=True)  # the keys ascend: the first document of each
            for one, other in near_pairs(hashes, self.key_bits, self.distance):
                yield np.sort(np.stack([documents[first[one]], documents[first[other]]], axis=1), axis=1)

        found = join_in_memory(blocks(), _EDGES_AT_ONCE)
        return np.stack([found.firsts, found.documents], axis=1)[found.firsts != found.documents]


def near_pairs(hashes: np.ndarray, key_bits: int, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places (i, j), i < j, of hashes that agree in their leading bits and differ in at most `distance` bits.

    Args:
      hashes: uint64, distinct and ascending.
      key_bits: leading bits, 1 to 64.
      distance: bits.
    """
    groups = hashes >> np.uint64(_BITS - key_bits)
    last = np.searchsorted(groups, groups, side="right") - 1
    places, offset = np.arange(len(hashes)), 1
    while len(places := places[places + offset <= last[places]]):  # those with a neighbour at this offset
        near = places[np.bitwise_count(hashes[places] ^ hashes[places + offset]) <= distance]
        if len(near):
            yield near, near + offset
        offset += 1
