"""Repeats of a corpus of any size: hashes of all windows, shuffled by hash range.

A window takes 16 bytes in the shuffle: 96 bits of hash and its place in the unit. Two different windows of W share a
hash with probability W^2 / 2^97: 6 in 10^10 for 10^10 windows. A part of the shuffle sorts its hashes, keeps the
places of those that occur twice, and writes the repeats among them, sorted by place, so that a unit finds its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.dedup.hashing import constants, mix
from beam_pipelines.web.substring.repeats import FIRST, PLACE, REPEAT, UNIT_BITS, whole_windows, write_repeats
from beam_pipelines.web.substring.sequences import Segment, read_segments

BYTES_PER_WINDOW = 40  # memory of a part of the shuffle
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def rolled(hashes: np.ndarray, length: int, seed: int) -> np.ndarray:
    """uint64 [n - length + 1]: a hash of every `length` neighbours of uint64 [n], made by doubling.

    Each round mixes the hashes of two neighbouring spans; a length that is no power of two ends with two spans that
    overlap. Six rounds for 50, against 50 multiplications; no sum over the whole that texts with a period could cheat.
    """
    if len(hashes) < length:
        return np.zeros(0, np.uint64)
    result, span = mix(hashes ^ constants(1, seed)[0]), 1
    while span < length:
        step = min(span, length - span)
        left = result[:-step] * _MULTIPLIER
        left += result[step:]
        result, span = mix(left), span + step
    return result


def window_hashes(segment: Segment, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(uint64 [w] hashes, uint64 [w] other hashes, int64 [w] places in the segment) of the windows within documents."""
    place = np.flatnonzero(whole_windows(segment.lengths, length))
    high, low = (
        rolled(np.ascontiguousarray(segment.hashes[:, lane])[segment.symbols], length, seed=lane)[place]
        for lane in (0, 1)
    )
    return high, low, place


@dataclass(frozen=True)
class EmitWindows:
    """A unit's windows as one block per segment and part.

    A block is uint64 [k, 2]: 64 bits of hash; 32 more and the place in the unit. It is tagged with the unit's index
    in the high bits, the segment's number and, lowest, whether that is the unit's last.

    Attributes:
      keys: folder of the key files.
      length: of a window.
      ranges: parts of the shuffle.
    """

    keys: str
    length: int
    ranges: int

    def __call__(self, source: Unit, wanted: frozenset[int]) -> Iterable[tuple[int, tuple[int, bytes]]]:
        """Yields (part, (tag, block)) for the wanted parts, also where a block is empty."""
        start = 0
        is_wanted = np.zeros(self.ranges, bool)
        is_wanted[list(wanted)] = True
        for number, segment in enumerate(read_segments(storage.join(self.keys, f"{source.name}.keys"))):
            tag = source.arguments["index"] << 32 | number << 1 | segment.last
            high, low, place = window_hashes(segment, self.length)
            part = (high >> _HALF) * np.uint64(self.ranges) >> _HALF
            own = is_wanted[part.astype(np.int64)]
            # 16 bits: numpy sorts these by counting, in linear time.
            high, low, place, part = high[own], low[own], place[own], part[own].astype(np.uint16)
            order = np.argsort(part, kind="stable")
            block = np.empty((len(order), 2), np.uint64)
            block[:, 0] = high[order]
            block[:, 1] = (low[order] >> _HALF << _HALF) | (place[order] + start).astype(np.uint64)
            limits = np.searchsorted(part[order], np.arange(self.ranges + 1))
            for index in sorted(wanted):
                rows = block[limits[index] : limits[index + 1]]
                yield index, (tag, rows.tobytes())
            start += len(segment.symbols)


def check_complete(tags: Sequence[int], sources: int, part: str) -> None:
    """Raises RuntimeError unless every segment of every source is there once.

    Example: two sources, the second of two segments: 0 << 32 | 1, 1 << 32 | 0, 1 << 32 | 3.
    """
    expected = []
    for source in range(sources):
        own = [tag for tag in tags if tag >> 32 == source]
        expected += [source << 32 | number << 1 | (number == len(own) - 1) for number in range(max(len(own), 1))]
    if list(tags) != expected:
        raise RuntimeError(f"shuffle part {part}: {len(tags)} blocks came through, not those of {sources} sources")


def repeats_of(blocks: Sequence[tuple[int, np.ndarray]], length: int, keep: str) -> np.ndarray:
    """REPEAT [k] in the order of the windows, from (unit's index, [w, 2] as in `EmitWindows`) blocks of one part."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *(block[:, 0] for _, block in blocks)])
    hashes.sort()
    hashes = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(hashes):
        return np.zeros(0, REPEAT)
    found = [np.zeros((0, 3), np.uint64)]  # hash; more of it; window
    for unit, block in blocks:
        at = np.minimum(np.searchsorted(hashes, block[:, 0]), len(hashes) - 1)
        rows = block[hashes[at] == block[:, 0]]
        window = (rows[:, 1] & PLACE) | (np.uint64(unit) << UNIT_BITS)
        found.append(np.stack([rows[:, 0], rows[:, 1] >> _HALF, window], axis=1))
    high, low, window = np.concatenate(found).T
    order = np.lexsort((window, low, high))
    high, low, window = high[order], low[order], window[order]
    same = np.zeros(len(order), bool)  # as the row before
    same[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    copy = window[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))]
    if keep == FIRST:
        repeat = window - copy >= np.uint64(length)  # windows of two documents are always that far apart
    else:
        repeat = same.copy()
        repeat[:-1] |= same[1:]
    result = np.zeros(int(repeat.sum()), REPEAT)
    result["window"], result["copy"] = window[repeat], copy[repeat]
    return result[np.argsort(result["window"], kind="stable")]


@dataclass(frozen=True)
class FindByWindows:
    """One part of the shuffle: blocks to `<part>.repeats`.

    Attributes:
      folder: where it goes.
      sources: number of units.
      length, keep: see `repeats`.
    """

    folder: str
    sources: int
    length: int
    keep: str

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes the repeats.

        Raises:
          RuntimeError: the runner lost or doubled a block.
        """
        check_complete([tag for tag, _ in blocks], self.sources, unit.name)
        arrays = [(tag >> 32, np.frombuffer(block, np.uint64).reshape(-1, 2)) for tag, block in blocks]
        repeats = repeats_of(arrays, self.length, self.keep)
        limits = np.arange(self.sources + 1, dtype=np.uint64) << UNIT_BITS
        with storage.atomic_writer(storage.join(self.folder, f"{unit.name}.repeats")) as file:
            write_repeats(file, np.searchsorted(repeats["window"], limits), [repeats])
        write_result(self.folder, unit, {"windows": sum(len(a) for _, a in arrays), "repeats": len(repeats)})
