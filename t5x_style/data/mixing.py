"""The order of examples: which record of which source stands at each place of the mixture.

Everything here is arithmetic on indices, so that any place can be asked for at any time: that is what makes the
loader's state a few numbers. grain's MapDataset has the same operations, and is not used for them, because in grain
0.2.18 the shuffle of 4**k + 1 records is no permutation (one record comes twice, another never: max_index 65536 for
one), it takes 19 ms an example for sources of 3, and the mix walks through all sources for every example and rounds
rates to whole percents of the smallest.
"""

from __future__ import annotations

import bisect
import collections
import hashlib
import itertools
from collections.abc import Sequence

import numpy as np

from t5x_style.errors import UserError

# Each stream gets this many examples of every shuffled window of the mixture. The window only has to break the
# period of the interleaving; a larger one would blend epochs of small sources.
WINDOW_PER_STREAM = 128
_RESOLUTION = 2**40  # rates as integers: a relative error under 1e-9 for every rate above 1e-3 of the sum
_TABLE = 2**16  # up to this size a permutation is a table of uint16 (128 KiB); above, a cipher, a few us a call
_WORD = 2**64 - 1
_RUNS_KEPT = 2  # of one source: streams read a little apart, so that two epochs are in use at its end


class RateTree:
    """Interleaves endless sources evenly at given rates, in time logarithmic in the number of sources.

    After n examples each source has given n * rate of them, to within the depth of the tree. Each inner node splits
    its own count k between its halves: the left one gets k * weight(left) // weight(node) of the first k.

    >>> [RateTree([2.0, 1.0])[i] for i in range(6)]
    [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2), (0, 3)]
    """

    def __init__(self, rates: Sequence[float]):
        total = sum(rates)
        weights = [max(1, round(rate / total * _RESOLUTION)) for rate in rates]
        self._sums = [0, *itertools.accumulate(weights)]

    def __getitem__(self, place: int) -> tuple[int, int]:
        """(source, how many examples of that source came before) at `place`."""
        sums = self._sums
        low, high = 0, len(sums) - 1
        while high - low > 1:
            middle = (low + high) // 2
            left, whole = sums[middle] - sums[low], sums[high] - sums[low]
            before = place * left // whole
            if (place + 1) * left // whole > before:
                place, high = before, middle
            else:
                place, low = place - before, middle
        return low, place


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
    """An endless index over runs of `size`, each in a random order of its own: first 0..size-1, then size..2*size-1."""

    def __init__(self, size: int, seed: int):
        self._size, self._seed = size, seed
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
        if len(self._runs) >= _RUNS_KEPT:
            self._runs.popitem(last=False)
        if self._size <= _TABLE:
            self._runs[run] = _permutation(self._size, named_seed(self._seed, run))
        else:
            self._runs[run] = tuple(named_seed(self._seed, run, round_) for round_ in range(4))
        return self._runs[run]


class ExampleOrder:
    """place -> (source, record): endless and mixed by rates, or one finite pass. Not for several threads at once."""

    def __init__(
        self,
        names: Sequence[str],
        counts: Sequence[int],
        rates: Sequence[float],
        *,
        seed: int,
        shuffle: bool,
        repeat: bool,
        streams: int,
    ):
        """Builds the order.

        Args:
          names, counts, rates: name, number of examples and relative example rate (> 0) of each source.
          seed: of all shuffles; a source's shuffle depends on its name only, and differs in every epoch.
          shuffle: shuffle each source, and windows of the mixture. Otherwise file order.
          repeat: endless. Otherwise one finite pass over every example of every source, whatever the rates.
          streams: stream v will read the places v, v + streams, ...

        Raises:
          UserError: an endless mixture in file order: its streams would each see single sources.
        """
        if repeat and not shuffle and len(names) > 1:
            raise UserError(
                f"DataConfig: shuffle=False with repeat=True over {len(names)} sources would give each stream single "
                "sources; set shuffle=True (it is deterministic by seed) or repeat=False"
            )
        self._counts = list(counts)
        self._ends = list(itertools.accumulate(counts))
        self._tree = RateTree(rates) if repeat else None
        self._sources: list[Shuffle] | None = None
        self._places: Shuffle | None = None
        if shuffle and repeat:
            self._sources = [Shuffle(count, named_seed(seed, name)) for name, count in zip(names, counts)]
            if len(names) > 1:
                self._places = Shuffle(WINDOW_PER_STREAM * streams, named_seed(seed, "mixture"))
        elif shuffle:
            self._places = Shuffle(self._ends[-1], named_seed(seed, "pass"))
        self.size: int | None = None if repeat else self._ends[-1]

    def __getitem__(self, place: int) -> tuple[int, int]:
        if self._places is not None:
            place = self._places[place]
        if self._tree is None:
            source = bisect.bisect_right(self._ends, place)
            return source, place - (self._ends[source] - self._counts[source])
        source, index = self._tree[place]
        if self._sources is not None:
            index = self._sources[source][index]
        return source, index % self._counts[source]
