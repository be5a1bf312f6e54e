"""64-bit mixing in numpy: constants that depend on nothing but their index, hashes of columns of integers."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al. 2014): uint64 in, well-mixed uint64 of the same shape out."""
    values = values.astype(np.uint64)
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def constants(count: int, seed: int) -> np.ndarray:
    """uint64 [count]: SplitMix64's stream from `seed`, the same on every machine and numpy version."""
    return mix(np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN + np.uint64(seed))


def combine(columns: np.ndarray) -> np.ndarray:
    """One uint64 per row of [..., columns]: depends on all columns and their order.

    Mixed values times odd constants, summed: two rows that differ in one column never agree, others with a chance of
    about 2^-64.
    """
    return mix(mix(columns) @ _weights(columns.shape[-1]))


@lru_cache(maxsize=64)
def _weights(count: int) -> np.ndarray:
    return constants(count, 0) | np.uint64(1)


def range_of(hashes: np.ndarray, ranges: int) -> np.ndarray:
    """int64: which of `ranges` equal parts of the numbers below 2^64 each of the uint64 hashes lies in (32 bits count).

    Example: range_of([0, 2**63, 2**64 - 1], 4) -> [0, 2, 3].
    """
    return ((hashes >> np.uint64(32)) * np.uint64(ranges) >> np.uint64(32)).astype(np.int64)


def text_hashes(texts: list[str]) -> np.ndarray:
    """uint64 [texts, 2]: 128-bit hash (XXH3) of each text's UTF-8, the same on every machine.

    Lone surrogates, which UTF-8 does not have, count as the three bytes they would have.
    """
    import xxhash

    digests = b"".join(xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in texts)
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(len(texts), 2)
