"""The order of examples: which records of which source a stream reads as its group number m.

Everything here is arithmetic on indices, so that any group can be asked for at any time: that is what makes the
loader's state a few numbers. grain's MapDataset has the same operations, and is not used for them, because in grain
0.2.18 the shuffle of 4**k + 1 records is no permutation (one record comes twice, another never: max_index 65536 for
one), it takes 19 ms an example for sources of 3, and the mix walks through all sources for every example and rounds
rates to whole percents of the smallest.

Worked example, two streams (V = 2) of one source of 4 records in file order, groups of one: stream 0 reads the records
0, 2, 0, 2, ..., stream 1 the records 1, 3, 1, 3, ...: group k of stream v is group k * V + v of the source's epochs.
"""

from __future__ import annotations

import bisect
import collections
import functools
import hashlib
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_RESOLUTION = 2**40  # rates as integers: a relative error under 1e-9 for every rate above 1e-3 of the sum
_TABLE = 2**16  # up to this size a permutation is a table of uint16 (128 KiB); above, a cipher, a few us a call
_WORD = 2**64 - 1
_MOST_RUNS = 64  # epochs of one source that are kept ready, where it is so small that streams are epochs apart


class Group(NamedTuple):
    """What a stream reads together: records of one source and one epoch."""

    source: int  # place in the list of sources that the order was made of
    records: tuple[int, ...]
    epoch: int


@functools.cache
def _coprimes(number: int) -> tuple[int, ...]:
    """1 and all numbers up to `number` that share no divisor with it."""
    return tuple(step for step in range(1, number + 1) if math.gcd(step, number) == 1)


class RateTree:
    """Interleaves endless sources evenly at given rates, in time logarithmic in the number of sources.

    After n groups each source has given n * rate of them, to within the depth of the tree. Each inner node splits its
    own count k between its halves: the left one gets (k * weight(left) + phase) // weight(node) of the first k. Streams
    have phases of their own, spread evenly, so that a source comes in all of them together as evenly as in one.

    >>> [RateTree([2.0, 1.0]).locate(i) for i in range(6)]
    [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2), (0, 3)]
    """

    def __init__(self, rates: Sequence[float]):
        total = sum(rates)
        weights = [max(1, round(rate / total * _RESOLUTION)) for rate in rates]
        sums = [0, *itertools.accumulate(weights)]
        self._nodes: list[tuple[int, int, int, int]] = []  # left weight, whole weight, left child, right child
        self._root = self._build(sums, 0, len(weights))

    def _build(self, sums: list[int], low: int, high: int) -> int:
        """Number of the node over the sources low..high-1; a leaf is -1 - source."""
        if high - low == 1:
            return -1 - low
        middle = (low + high) // 2
        number = len(self._nodes)
        self._nodes.append((0, 0, 0, 0))
        children = self._build(sums, low, middle), self._build(sums, middle, high)
        self._nodes[number] = (sums[middle] - sums[low], sums[high] - sums[low], *children)
        return number

    def phases(self, seed: int, stream: int, streams: int) -> list[int]:
        """A phase for every node, below its whole weight: those of all streams are whole / streams apart."""
        found = []
        steps = _coprimes(streams)
        for number, (_, whole, _, _) in enumerate(self._nodes):
            x = (seed * 0x9E3779B97F4A7C15 + number * 0x94D049BB133111EB + 1) & _WORD
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
            x ^= x >> 31
            place = stream * steps[x % len(steps)] % streams  # every node has an order of the streams of its own
            found.append((((x * whole) >> 64) + place * whole // streams) % whole)
        return found

    def locate(self, place: int, phases: Sequence[int] | None = None) -> tuple[int, int]:
        """(source, how many groups of that source came before) at `place`."""
        node, nodes = self._root, self._nodes
        while node >= 0:
            left, whole, first, second = nodes[node]
            before, rest = divmod(place * left + phases[node] if phases else place * left, whole)
            if rest + left >= whole:  # the next one is the left half's
                place, node = before, first
            else:
                place, node = place - before, second
        return -1 - node, place

    def count(self, source: int, places: int, phases: Sequence[int] | None = None) -> int:
        """How many of the first `places` are of a source."""
        node, low, high = self._root, 0, len(self._nodes) + 1
        while node >= 0:
            left, whole, first, second = self._nodes[node]
            before = (places * left + (phases[node] if phases else 0)) // whole
            middle = (low + high) // 2
            if source < middle:
                places, node, high = before, first, middle
            else:
                places, node, low = places - before, second, middle
        return places


def named_seed(seed: int, *names: object) -> int:
    """A 31-bit seed that depends on `seed` and `names` and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=4).digest(), "big") >> 1


def _permutation(size: int, seed: int) -> np.ndarray:
    """[size] a permutation by sorting hashes (splitmix64: Steele, Lea, Flood 2014), the same with every numpy."""
    with np.errstate(over="ignore"):
        x = (np.arange(1, size + 1, dtype=np.uint64) + np.uint64(seed << 17)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return np.argsort(x, kind="stable").astype(np.uint16)


def _encipher(value: int, size: int, keys: tuple[int, ...]) -> int:
    """Place of `value` in a permutation of 0..size-1: a Feistel network over the next power of 4, walked into range.

    Luby and Rackoff 1988 (four rounds); cycle walking: Black and Rogaway 2002. At most 4 steps on average.
    """
    half = ((size - 1).bit_length() + 1) // 2
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for key in keys:
            mixed = ((right + key) * 0x9E3779B97F4A7C15) & _WORD
            mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & _WORD
            left, right = right, left ^ (mixed >> (64 - half))
        value = (left << half) | right
        if value < size:
            return value


class Shuffle:
    """An endless index over runs of `size`, each in a random order of its own: first 0..size-1, then size..2*size-1.

    kept: so many runs stay ready; streams that read it are a little apart.
    """

    def __init__(self, size: int, seed: int, kept: int = 2):
        self._size, self._seed, self._kept = size, seed, kept
        self._runs: collections.OrderedDict[int, np.ndarray | tuple[int, ...]] = collections.OrderedDict()

    def __getitem__(self, index: int) -> int:
        run, within = divmod(index, self._size)
        order = self._runs.get(run)
        if order is None:
            order = self._make(run)
        if isinstance(order, tuple):
            return run * self._size + _encipher(within, self._size, order)
        return run * self._size + int(order[within])

    def _make(self, run: int) -> np.ndarray | tuple[int, ...]:
        """The table or the keys of a run; the oldest ones are forgotten."""
        if len(self._runs) >= self._kept:
            self._runs.popitem(last=False)
        if self._size <= _TABLE:
            self._runs[run] = _permutation(self._size, named_seed(self._seed, run))
        else:
            self._runs[run] = tuple(named_seed(self._seed, run, round_) for round_ in range(4))
        return self._runs[run]


class SourceOrder:
    """An endless sequence of groups over the epochs of one source, shared by all streams.

    Every epoch holds every record once. A group is `group` records that follow each other in the epoch; the last of an
    epoch is shorter, unless that would leave it fewer than `least`: then it joins the one before.
    """

    def __init__(self, records: int, group: int, least: int, seed: int, shuffle: bool, streams: int):
        whole, rest = divmod(records, group)
        self.groups = max(1, whole if rest < least else whole + 1) if rest else whole
        self._records, self._group = records, group
        kept = min(_MOST_RUNS, 2 + -(-streams // self.groups))
        self._shuffle = Shuffle(records, seed, kept) if shuffle and records > 1 else None

    def __getitem__(self, number: int) -> tuple[tuple[int, ...], int]:
        """(records, epoch) of group `number`."""
        epoch, place = divmod(number, self.groups)
        base = epoch * self._records
        if self._group == 1:
            index = base + place
            return ((index if self._shuffle is None else self._shuffle[index]) - base,), epoch
        end = self._records if place == self.groups - 1 else (place + 1) * self._group
        indices = range(base + place * self._group, base + end)
        if self._shuffle is None:
            return tuple(index - base for index in indices), epoch
        return tuple(self._shuffle[index] - base for index in indices), epoch


class PassOrder:
    """One finite pass over all groups of all sources, in no proportion; group 0, 1, ... until `size`."""

    def __init__(self, sources: Sequence[SourceOrder], seed: int, shuffle: bool):
        self._sources = list(sources)
        self._ends = list(itertools.accumulate(source.groups for source in sources))
        self.size = self._ends[-1]
        self._places = Shuffle(self.size, named_seed(seed, "pass")) if shuffle and self.size > 1 else None

    def __getitem__(self, number: int) -> Group:
        if self._places is not None:
            number = self._places[number]
        source = bisect.bisect_right(self._ends, number)
        number -= self._ends[source] - self._sources[source].groups
        return Group(source, *self._sources[source][number])
