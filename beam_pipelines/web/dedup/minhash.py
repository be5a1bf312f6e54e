"""MinHash LSH (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3) in numpy.

Two documents become a candidate pair when all rows of at least one band agree: for Jaccard similarity s of their
shingle sets with probability 1 - (1 - s^rows)^bands. 14 bands of 8 rows (FineWeb) give .56, .77, .92 and .99 for
s = .7, .75, .8 and .85; 450 bands of 20 rows (RefinedWeb) give .995 for s = .8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from beam_pipelines.web.dedup.hashing import combine, constants
from beam_pipelines.web.dedup.key_dedup import MAX_EDGES_IN_MEMORY, KeyDedup, check_positive
from beam_pipelines.web.dedup.shingles import shingle_set
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError

_CELLS = 32_768  # of one pass: arrays of 256 KB stay in the processor's cache
_MAX_COUNT = 32_768  # twice as many rounds must fit the 16 bits above the hash
_EMPTY = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class MinHashDedup(KeyDedup):
    """Drops documents that share a band with an earlier one, directly or through others (connected components).

    A document costs 12 bytes a band in the shuffle: 168 bytes at 14 x 8, 5.4 kB at 450 x 20.

    Attributes:
      bands, rows: the LSH scheme.
      ngram: words in a shingle.
      seed: of the hash functions.
      hash_ranges: parts of the shuffle per band; a part needs about 60 bytes of memory a document.
      max_edges_in_memory: see `KeyDedup`.

    Raises:
      UserError: a value below 1, or more than 32,768 values in a signature.
    """

    bands: int = 14
    rows: int = 8
    ngram: int = 5
    seed: int = 1
    hash_ranges: int = 1
    max_edges_in_memory: int = MAX_EDGES_IN_MEMORY
    name: str = "minhash_dedup"

    reason: ClassVar[str] = "near_duplicate"
    width: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_positive(self, "bands", "rows", "ngram", "hash_ranges", "max_edges_in_memory")
        if self.bands * self.rows > _MAX_COUNT:
            raise UserError(f"MinHashDedup: bands * rows must be at most {_MAX_COUNT}, not {self.bands * self.rows}")

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: one key per band; documents without a word have none."""
        rows = [row for row, document in enumerate(documents) if document.normalised_words]
        result = np.zeros((len(rows), self.bands, 1), np.uint64)
        for keys, row in zip(result, rows, strict=True):
            keys[:, 0] = self.band_keys(shingle_set(documents[row].normalised_words, self.ngram))
        return np.array(rows, np.int64), result

    def band_keys(self, shingles: np.ndarray) -> np.ndarray:
        """uint64 [bands] of a document by its `shingle_set`, which must not be empty."""
        values = signature(shingles, self.bands * self.rows, self.seed)
        return combine(values.reshape(self.bands, self.rows))


@lru_cache(maxsize=8)
def _multipliers(count: int, seed: int) -> np.ndarray:
    """uint64 [2 * count]: one odd multiplier per round."""
    return constants(2 * count, seed) | np.uint64(1)


def signature(shingles: np.ndarray, count: int, seed: int) -> np.ndarray:
    """uint64 [count]: values that two sets share, each with a probability of exactly their Jaccard similarity.

    Fast similarity sketching (Dahlgaard, Knudsen, Thorup: Fast Similarity Sketching, FOCS 2017). In round r < count
    every shingle x is thrown into bin floor(h_r(x) * count / 2^64); in round count + j all are thrown into bin j, so
    that none stays empty. A bin's value is its first: (round, hash), the smallest hash of the round where several came.
    For truly random h_r the shingle that wins a bin is uniform over the union of two sets, so the values are unbiased
    as those of `count` independent permutations are, and scatter less about the mean (the paper proves Chernoff's
    bounds; benchmarks/web_dedup_recall.py measures bands of rows against 1 - (1 - s^rows)^bands). About
    max(shingles, count * ln(count)) hashes are computed, with independent functions it were shingles * count: for
    2,000 shingles and 9,000 functions 90 thousand in place of 18 million. h_r(x) = a_r x mod 2^64 with odd a_r, of
    shingles that are hashes already; its high bits choose the bin, 48 bits decide inside it.

    Args:
      shingles: distinct uint64 [n > 0], well mixed, in any order.
      count: of values, at most 32,768.
      seed: of the functions.
    """
    multipliers = _multipliers(count, seed)
    values = np.full(count, _EMPTY, np.uint64)
    # After count * (ln(count) + 1) throws a third of a bin is empty on average (coupon collector).
    wanted = min(_CELLS, int(count * (math.log(count) + 1)) + 1)
    step = max(1, wanted // len(shingles))
    for first in range(0, count, step):
        rounds = np.arange(first, min(first + step, count), dtype=np.uint64)
        for left in range(0, len(shingles), _CELLS):
            _throw(values, shingles[left : left + _CELLS], rounds, multipliers)
        if values.max() != _EMPTY:
            return values
    empty = np.flatnonzero(values == _EMPTY)  # only with a dozen shingles or fewer
    last = (shingles * multipliers[count + empty, None]).min(axis=1) >> np.uint64(16)
    values[empty] = last | (count + empty).astype(np.uint64) << np.uint64(48)
    return values


def _throw(values: np.ndarray, shingles: np.ndarray, rounds: np.ndarray, multipliers: np.ndarray) -> None:
    """Throws every shingle once a round and keeps the smallest (round, hash) of every bin in `values`."""
    hashes = shingles * multipliers[rounds[0] : rounds[-1] + np.uint64(1), None]  # [rounds, shingles]
    bins = hashes >> np.uint64(32)
    bins *= np.uint64(len(values))
    bins >>= np.uint64(32)
    hashes >>= np.uint64(16)
    hashes |= (rounds << np.uint64(48))[:, None]
    np.minimum.at(values, bins.view(np.int64).ravel(), hashes.ravel())
