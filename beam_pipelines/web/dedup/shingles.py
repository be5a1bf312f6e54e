"""Shingles: a document as the set of its n-grams of words, each one a 64-bit number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from beam_pipelines.web.dedup.hashing import mix

_MAX_KNOWN_WORDS = 500_000  # about 80 MB; emptied when full, for it is only a cache of a pure function
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class _WordHashes(dict[str, bytes]):
    """Word -> 8 bytes, computed when first asked for."""

    def __missing__(self, word: str) -> bytes:
        import xxhash

        found = self[word] = xxhash.xxh3_64_digest(word.encode("utf-8", "surrogatepass"))
        return found


_KNOWN_WORDS = _WordHashes()


def shingle_hashes(words: Sequence[str], n: int) -> np.ndarray:
    """uint64 [len(words) - n + 1]: hashes of the n-grams of words, in order, repetitions included.

    A shorter text is one shingle, one without words none. A shingle does not depend on what stands around it.
    """
    if not words:
        return np.zeros(0, np.uint64)
    if len(_KNOWN_WORDS) > _MAX_KNOWN_WORDS:
        _KNOWN_WORDS.clear()
    hashes = np.frombuffer(b"".join(map(_KNOWN_WORDS.__getitem__, words)), "<u8").astype(np.uint64, copy=False)
    size = min(n, len(words))
    count = len(words) - size + 1
    rolled = hashes[:count].copy()
    for offset in range(1, size):
        rolled *= _MULTIPLIER
        rolled += hashes[offset : offset + count]
    return mix(rolled)


def shingle_set(words: Sequence[str], n: int) -> np.ndarray:
    """uint64, ascending: the set of `shingle_hashes`.

    Example: "a b a b a" with n = 2 has two.
    """
    ordered = np.sort(shingle_hashes(words, n))
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))] if len(ordered) else ordered
