"""Windows that are repeats: which windows of a unit are copies of which others.

A *window* is `length` symbols in a row within one document, named by where it starts: the unit's index in the high 32
bits, the symbol's place in the unit in the low ones. With keep="first" a window is a *repeat* if the same symbols
stand earlier, in a document before it or in its own but without overlapping it: the first copy in input order (file,
row, place) is none. With keep="none" it is a repeat if the same symbols stand anywhere else, overlapping or not, as
the public tool has it (Lee et al. 2022, "Deduplicating Training Data Makes Language Models Better").

Example, length 3, two documents "a b c d" and "x a b c": the windows are abc, bcd and xab, abc. The last one is a
repeat; with keep="none" the first one too.
Example, length 3, one document "a a a a a a a" (7): all five windows are equal. keep="first" makes the windows at 3
and 4 repeats, since those at 1 and 2 overlap the first; what is left is "a a a". keep="none" leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

import numpy as np

from beam_pipelines.files import storage

FIRST, NONE = "first", "none"
REPEAT = np.dtype([("window", np.uint64), ("copy", np.uint64)])  # a repeat and the first window that is the same
UNIT_BITS = np.uint64(32)
PLACE = np.uint64(2**32 - 1)


def whole_windows(lengths: np.ndarray, length: int) -> np.ndarray:
    """bool [sum of lengths]: whether a window that starts here ends in the same document.

    Example: lengths [2, 4], length 3 -> [False, False, True, True, False, False].
    """
    whole = np.maximum(lengths - length + 1, 0)
    return np.repeat(np.tile([True, False], len(lengths)), np.stack([whole, lengths - whole], axis=1).ravel())


def write_repeats(file: IO[bytes], bounds: np.ndarray, repeats: Iterable[np.ndarray]) -> None:
    """Writes repeats in the order of their windows; unit i has those from bounds[i] to bounds[i + 1]."""
    file.write(bounds.astype(np.uint64).tobytes())
    for piece in repeats:
        file.write(piece.tobytes())


def read_repeats(path: str, unit: int, units: int) -> np.ndarray:
    """REPEAT [k]: one unit's share of a file of repeats, in the order of the windows."""
    with storage.open_read(path) as file:
        file.seek(8 * unit)
        start, stop = np.frombuffer(file.read(16), np.uint64).tolist()
        file.seek(8 * (units + 1) + start * REPEAT.itemsize)
        content = file.read((stop - start) * REPEAT.itemsize)
    if len(content) != (stop - start) * REPEAT.itemsize:
        raise EOFError(f"{path}: ends early")
    return np.frombuffer(content, REPEAT)
