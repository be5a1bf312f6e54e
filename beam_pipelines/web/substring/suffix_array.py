"""Repeats of a whole corpus in one task: suffix array and longest common prefixes.

Equal windows stand side by side in the suffix array of the joined corpus, their common prefix at least `length` long.
Windows that run from one document into the next are left out afterwards, which takes no separators. Time is linear
but for divsufsort's logarithm; memory is `BYTES_PER_SYMBOL`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.substring.repeats import FIRST, REPEAT, UNIT_BITS, whole_windows, write_repeats
from beam_pipelines.web.substring.sequences import read_segments

# Symbols 4 and as big-endian bytes up to 4, their byte suffixes 16 (32 from 2^31 bytes on), and room for the rest.
BYTES_PER_SYMBOL = 28
BYTES_PER_SYMBOL_LARGE = 48
_INT32_BYTES = 2**31 - 1
_CHUNK = 1_000_000


def memory_of(symbols: int) -> int:
    """Bytes that the task needs for a corpus of so many symbols, at most."""
    return symbols * (BYTES_PER_SYMBOL if 4 * symbols <= _INT32_BYTES else BYTES_PER_SYMBOL_LARGE)


def suffix_array(symbols: np.ndarray) -> np.ndarray:
    """int32 or int64 [n]: starts of the suffixes of uint32 [n] symbols in lexicographic order.

    The bytes of the symbols, highest first and all of the same width, are sorted; every width-th suffix is a symbol's.
    """
    from pydivsufsort import divsufsort

    if not len(symbols):
        return np.zeros(0, np.int32)
    width = max(1, (int(symbols.max()).bit_length() + 7) // 8)
    content = symbols.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 4 - width :].reshape(-1)
    suffixes = divsufsort(content)
    del content
    count = 0
    for start in range(0, len(suffixes), _CHUNK):  # moved down in place: a mask over all would cost as much again
        chunk = suffixes[start : start + _CHUNK]
        chunk = chunk[chunk % width == 0] // width
        suffixes[count : count + len(chunk)] = chunk
        count += len(chunk)
    return suffixes[:count].copy()


def first_copies(symbols: np.ndarray, lengths: np.ndarray, length: int, keep: str) -> np.ndarray:
    """int32 or int64 [n]: for every window that is a repeat the first one with the same symbols, -1 elsewhere.

    Args:
      symbols: uint32 [n], the documents one after the other.
      lengths: int64 [documents] symbols of each.
      length: symbols of a window.
      keep: "first" or "none"; see `repeats`.

    Example: symbols 1 2 3 1 2 3, lengths [6], length 3 -> [-1, -1, -1, 0, -1, -1].
    """
    from pydivsufsort import kasai

    suffixes = suffix_array(symbols)
    copies = np.full(len(symbols), -1, suffixes.dtype)
    if len(symbols) < 2:
        return copies
    joined = kasai(symbols, suffixes) >= length  # with the suffix that follows
    whole = whole_windows(lengths, length)
    for start, stop in _chunks(joined):
        _find_in_chunk(suffixes[start:stop], joined[start:stop], whole, length, keep, copies)
    return copies


def _chunks(joined: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cuts the suffix array into pieces of about `_CHUNK`, never between two equal windows."""
    start = 0
    while start < len(joined):
        stop = min(start + _CHUNK, len(joined))
        while stop < len(joined) and joined[stop - 1]:
            after = joined[stop : stop + _CHUNK]
            stop += int(np.argmin(after)) + 1 if not after.all() else len(after)
        yield start, stop
        start = stop


def _find_in_chunk(
    suffixes: np.ndarray, joined: np.ndarray, whole: np.ndarray, length: int, keep: str, copies: np.ndarray
) -> None:
    """Sets `copies` for the repeats in a piece of the suffix array that begins and ends with a group."""
    opens = np.ones(len(suffixes), bool)
    opens[1:] = ~joined[:-1]
    grouped = ~opens | joined  # in a group of two or more
    window, starts = suffixes[grouped], np.flatnonzero(opens[grouped])
    if not len(window):
        return
    counted = whole[window]
    size = np.diff(np.append(starts, len(window)))
    first = np.minimum.reduceat(np.where(counted, window, np.iinfo(window.dtype).max), starts)
    first = np.repeat(first, size)
    if keep == FIRST:
        repeat = counted & (window - first >= length)
    else:
        repeat = counted & np.repeat(np.add.reduceat(counted, starts, dtype=np.int64) > 1, size)
    copies[window[repeat]] = first[repeat]


@dataclass(frozen=True)
class FindBySuffixArray:
    """The one task: all key files to `suffix_array.repeats`.

    Attributes:
      folder: where it goes.
      keys: folder of the key files.
      sources: the units' names, in order.
      length, keep: see `repeats`.
    """

    folder: str
    keys: str
    sources: Sequence[str]
    length: int
    keep: str

    def __call__(self, unit: Unit) -> None:
        """Writes the repeats of all units."""
        symbols, lengths, bounds = read_corpus([storage.join(self.keys, f"{name}.keys") for name in self.sources])
        copies = first_copies(symbols, lengths, self.length, self.keep)
        del symbols
        counts = [int((copies[start:stop] >= 0).sum()) for start, stop in itertools.pairwise(bounds)]
        with storage.atomic_writer(storage.join(self.folder, f"{unit.name}.repeats")) as file:
            write_repeats(file, np.cumsum([0, *counts]), _in_pieces(copies, bounds))
        write_result(self.folder, unit, {"symbols": len(copies), "repeats": sum(counts)})


def read_corpus(paths: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint32 [n] symbols, int64 [documents] lengths, int64 [units + 1] where the units begin) of all key files.

    Symbols are numbered by the first 64 bits of their hash; that two of v share these has a probability of v^2 / 2^65,
    3 in a million for ten million distinct words, and matters only where they stand in otherwise equal windows.
    """
    known = [np.unique(segment.hashes[:, 0]) for path in paths for segment in read_segments(path)]
    numbers = np.unique(np.concatenate([np.zeros(0, np.uint64), *known]))
    del known
    symbols, lengths, sizes = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)], [0]
    for path in paths:
        size = 0
        for segment in read_segments(path):
            number = np.searchsorted(numbers, segment.hashes[:, 0]).astype(np.uint32)
            symbols.append(number[segment.symbols])
            lengths.append(segment.lengths)
            size += len(segment.symbols)
        sizes.append(size)
    return np.concatenate(symbols), np.concatenate(lengths), np.cumsum(sizes)


def _in_pieces(copies: np.ndarray, bounds: np.ndarray) -> Iterator[np.ndarray]:
    """REPEAT arrays, in the order of the windows, from places in the joined corpus."""
    for index, (begin, end) in enumerate(itertools.pairwise(bounds.tolist())):
        for start in range(begin, end, _CHUNK):
            piece = copies[start : min(start + _CHUNK, end)]
            place = np.flatnonzero(piece >= 0)
            copy = piece[place]
            owner = np.searchsorted(bounds, copy, side="right") - 1
            repeats = np.zeros(len(place), REPEAT)
            repeats["window"] = (place + (start - begin)).astype(np.uint64) | (np.uint64(index) << UNIT_BITS)
            repeats["copy"] = (copy - bounds[owner]).astype(np.uint64) | (owner.astype(np.uint64) << UNIT_BITS)
            yield repeats
