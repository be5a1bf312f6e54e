"""64-bit mixing in numpy: constants that depend on nothing but their index, hashes of columns of integers."""

from __future__ import annotations

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
    """One uint64 per row of [..., columns]: depends on all columns and their order."""
    result = np.full(columns.shape[:-1], _GOLDEN, np.uint64)
    for index in range(columns.shape[-1]):
        result = mix((result + _GOLDEN) ^ columns[..., index].astype(np.uint64))
    return result
