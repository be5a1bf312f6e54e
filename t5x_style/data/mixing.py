"""The order of examples: which record of which source stands at each place of the mixture.

Everything here is arithmetic on indices through grain's MapDataset, so any place can be asked for at any time: that
is what makes the loader's state a few numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from t5x_style.errors import UserError

# Each stream gets this many examples of every shuffled window of the mixture. The window only has to break the
# period of the interleaving; a larger one would blend epochs of small sources.
WINDOW_PER_STREAM = 128
_RESOLUTION = 2**40  # rates as integers: a relative error under 1e-9 for every rate above 1e-3 of the sum


class RateTree:
    """grain selection map that interleaves endless sources evenly at given rates, in time logarithmic in sources.

    After n examples each source has given n * rate of them, to within the depth of the tree. Each inner node splits
    its own count k between its halves: the left one gets k * weight(left) // weight(node) of the first k.
    grain's own map walks through all sources for every example, and rounds rates to whole percents of the smallest.

    >>> [RateTree([2.0, 1.0])[i] for i in range(6)]
    [(1, 0), (0, 0), (0, 1), (1, 1), (0, 2), (0, 3)]
    """

    def __init__(self, rates: Sequence[float]):
        total = sum(rates)
        self._weights = [max(1, round(rate / total * _RESOLUTION)) for rate in rates]
        self._sums = [0]
        for weight in self._weights:
            self._sums.append(self._sums[-1] + weight)

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> tuple[int, int]:
        """(source, how many of that source came before) at place `index`."""
        low, high = 0, len(self._weights)
        sums = self._sums
        while high - low > 1:
            middle = (low + high) // 2
            left, whole = sums[middle] - sums[low], sums[high] - sums[low]
            before = index * left // whole
            if (index + 1) * left // whole > before:
                index, high = before, middle
            else:
                index, low = index - before, middle
        return low, index


class _Records:
    """A random-access list of (source, record) pairs, the leaves of the order."""

    def __init__(self, source: int, count: int):
        self._source, self._count = source, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, record: int) -> tuple[int, int]:
        return self._source, record


def named_seed(seed: int, *names: object) -> int:
    """A 31-bit seed that depends on `seed` and `names` and on nothing else."""
    text = "\x1f".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=4).digest(), "big") >> 1


def example_order(
    names: Sequence[str],
    counts: Sequence[int],
    rates: Sequence[float],
    *,
    seed: int,
    shuffle: bool,
    repeat: bool,
    streams: int,
) -> Any:
    """Builds the grain MapDataset whose element at a place is (source, record).

    Args:
      names, counts, rates: name, number of examples and relative example rate (> 0) of each source.
      seed: of all shuffles; a source's shuffle depends on its name only, and differs in every epoch.
      shuffle: shuffle each source, and windows of the mixture. Otherwise file order.
      repeat: endless. Otherwise one finite pass over every example of every source, whatever the rates.
      streams: stream v will read the places v, v + streams, ...

    Raises:
      UserError: an endless mixture in file order: its streams would each see single sources.
    """
    import grain

    leaves = [grain.MapDataset.source(_Records(index, count)) for index, count in enumerate(counts)]
    if not repeat:
        everything = grain.MapDataset.concatenate(leaves)
        return everything.shuffle(seed=named_seed(seed, "pass")) if shuffle else everything
    if shuffle:
        leaves = [leaf.shuffle(seed=named_seed(seed, name)) for name, leaf in zip(names, leaves)]
    repeated = [leaf.repeat() for leaf in leaves]
    if len(repeated) == 1:
        return repeated[0]
    if not shuffle:
        raise UserError(
            f"DataConfig: shuffle=False with repeat=True over {len(names)} sources would give each stream single "
            "sources; set shuffle=True (it is deterministic by seed) or repeat=False"
        )
    mixed = grain.MapDataset.select_from_datasets(repeated, RateTree(rates))
    window = WINDOW_PER_STREAM * streams
    return grain.experimental.WindowShuffleMapDataset(mixed, window_size=window, seed=named_seed(seed, "mixture"))
