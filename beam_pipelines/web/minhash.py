"""MinHash LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3) in numpy.

Two documents become a candidate pair when all rows of at least one band agree: for Jaccard similarity s of their
shingle sets with probability 1 - (1 - s^rows)^bands. 14 bands of 8 rows (FineWeb) give .56, .77, .92 and .99 for
s = .7, .75, .8 and .85; 450 bands of 20 rows (RefinedWeb) give .995 for s = .8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from beam_pipelines.web.dedup import KeyDedup
from beam_pipelines.web.document import Document
from beam_pipelines.web.hashing import combine, constants, mix
from beam_pipelines.web.words import normalised_words

# Cells of one block of shingles x functions and its width: 512 KB stay in the processor's cache. Functions lie along
# the rows, where the minimum over shingles is a vector operation: 0.55 ns a cell against 0.8 the other way round.
_CELLS, _WIDTH = 131_072, 4096
_MAX_KNOWN_WORDS = 500_000
_KNOWN_WORDS: dict[str, int] = {}  # a pure function's cache, emptied when full


@dataclass(frozen=True)
class MinHashDedup(KeyDedup):
    """Drops documents that share a band with an earlier one, directly or through others (connected components).

    Attributes:
      bands, rows: the LSH scheme.
      ngram: words in a shingle.
      seed: of the hash functions.
      hash_ranges: parts of the shuffle per band; more for larger corpora (16 bytes a document and band).
    """

    bands: int = 14
    rows: int = 8
    ngram: int = 5
    seed: int = 1
    hash_ranges: int = 1
    name: str = "minhash_dedup"

    reason: ClassVar[str] = "near_duplicate"
    width: ClassVar[int] = 1

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: one key per band; documents without a word have none."""
        signatures = [
            (row, signature(found, self.bands * self.rows, self.seed))
            for row, document in enumerate(documents)
            if len(found := shingles(normalised_words(document.text), self.ngram))
        ]
        rows = np.array([row for row, _ in signatures], np.int64)
        if not signatures:
            return rows, np.zeros((0, self.bands, 1), np.uint64)
        stacked = np.stack([values for _, values in signatures])  # [documents, bands * rows]
        return rows, combine(stacked.reshape(len(rows), self.bands, self.rows))[..., None]


def shingles(words: list[str], n: int) -> np.ndarray:
    """uint32 [words - n + 1]: hashes of the n-grams of words; a shorter text is one shingle, one without words none."""
    import xxhash

    if not words:
        return np.zeros(0, np.uint32)
    if len(_KNOWN_WORDS) > _MAX_KNOWN_WORDS:
        _KNOWN_WORDS.clear()
    known = _KNOWN_WORDS
    for word in set(words).difference(known):
        known[word] = xxhash.xxh3_64_intdigest(word.encode())
    hashes = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
    size = min(n, len(words))
    multiplier = np.uint64(0x9E3779B97F4A7C15)
    rolled = hashes[: len(words) - size + 1].copy()
    for offset in range(1, size):
        rolled *= multiplier
        rolled += hashes[offset : len(words) - size + 1 + offset]
    return (mix(rolled) >> np.uint64(32)).astype(np.uint32)


@lru_cache(maxsize=8)
def _functions(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The hash functions x -> a x + b mod 2^32: odd a, any b; both uint32 [count]."""
    numbers = constants(2 * count, seed) >> np.uint64(32)
    return (numbers[:count] | np.uint64(1)).astype(np.uint32), numbers[count:].astype(np.uint32)


def signature(hashes: np.ndarray, count: int, seed: int) -> np.ndarray:
    """uint32 [count]: the minimum of each of `count` hash functions over the shingles, uint32 [shingles > 0]."""
    a, b = _functions(count, seed)
    result = np.full(count, 0xFFFFFFFF, np.uint32)
    width = min(count, _WIDTH)
    height = max(1, min(_CELLS // width, len(hashes)))
    buffer = np.empty((height, width), np.uint32)
    for left in range(0, count, width):
        own_a, own_b, smallest = (values[left : left + width] for values in (a, b, result))
        for top in range(0, len(hashes), height):
            part = hashes[top : top + height, None]
            block = buffer[: len(part), : len(own_a)]  # [shingles, functions], modulo 2^32 by itself
            np.multiply(part, own_a, out=block)
            block += own_b
            np.minimum(smallest, block.min(axis=0), out=smallest)
    return result
