"""N-grams of one text that occur at least twice, found exactly, from short ones to long ones.

An n-gram can repeat only where its first n - 1 words repeat. So each n looks at no more than the places that were left
by n - 1: a quarter of a web page for pairs of words, a few percent for five. N-grams are numbered, not hashed. Many
places are put in order by numpy, number and place in one 64-bit integer, so that a plain sort is all there is to do.
Few are grouped by a dict, which is faster than a dozen calls of numpy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

_KEY_BITS = 63  # of an int64 that are free for key and place
_FEW = 100  # places below which the dict is faster


class _Level(NamedTuple):
    """The n-grams of one n that repeat: [places] each, by rising place."""

    places: Sequence[int] | np.ndarray  # the word at which the n-gram starts
    ids: Sequence[int] | np.ndarray  # equal for equal n-grams, below the number of words
    top_count: int = 0  # occurrences of the most frequent n-gram
    top_place: int = 0  # where it starts first


_NONE = _Level((), ())


class RepeatedNgrams:
    """Repeated n-grams of one text's words; n-gram i starts at word i."""

    def __init__(self, words: Sequence[str]):
        self._words = words
        number: defaultdict[str, int] = defaultdict(count().__next__)
        self._ids = np.fromiter(map(number.__getitem__, words), np.int64, len(words))  # [words], below their count
        self._ends = np.zeros(len(words) + 1, np.int64)  # [words + 1]: characters before each word
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=self._ends[1:])
        # Words themselves as n = 1, whether they repeat or not: to leave out single ones takes longer than it saves.
        few = len(words) < _FEW
        self._levels = {1: _Level(range(len(words)), self._ids.tolist() if few else self._ids)}

    def _level(self, n: int) -> _Level:
        longest = max(self._levels)
        while longest < n:
            shorter = self._levels[longest]
            longest += 1
            longer = self._longer_of_few if len(shorter.places) < _FEW else self._longer_of_many
            self._levels[longest] = longer(shorter, longest)
        return self._levels[n]

    def _longer_of_few(self, shorter: _Level, n: int) -> _Level:
        last = len(self._words) - n
        groups: dict[tuple[int, str], list[int]] = {}
        for place, ngram in zip(shorter.places, shorter.ids):
            if place <= last:
                groups.setdefault((ngram, self._words[place + n - 1]), []).append(place)
        repeated = [places for places in groups.values() if len(places) > 1]
        if not repeated:
            return _NONE
        top = max(repeated, key=len)  # the first of the most frequent: groups are in the order of their first places
        pairs = sorted((place, ngram) for ngram, places in enumerate(repeated) for place in places)
        return _Level([place for place, _ in pairs], [ngram for _, ngram in pairs], len(top), top[0])

    def _longer_of_many(self, shorter: _Level, n: int) -> _Level:
        places, ids = np.asarray(shorter.places, np.int64), np.asarray(shorter.ids, np.int64)
        fitting = int(np.searchsorted(places, len(self._words) - n, side="right"))
        places, ids = places[:fitting], ids[:fitting]
        keys = ids * len(self._words) + self._ids[places + (n - 1)]  # below words ** 2
        order, ordered = _sorted_with_order(keys, len(self._words))
        new = np.ones(len(ordered), bool)  # where another n-gram begins
        np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
        groups = np.cumsum(new) - 1
        counts = np.bincount(groups)
        repeated = counts[groups] > 1
        if not repeated.any():
            return _NONE
        most = int(counts.max())
        # Places rise within a group, so its first in the order is its first in the text.
        first = int(order[new][counts == most].min())
        by_place = np.full(len(places), -1)
        by_place[order[repeated]] = groups[repeated]
        left = by_place >= 0
        places, ids, top = places[left], by_place[left], int(places[first])
        return (
            _Level(places.tolist(), ids.tolist(), most, top) if len(places) < _FEW else _Level(places, ids, most, top)
        )

    def top_characters(self, n: int) -> int:
        """Characters in all occurrences of the most frequent n-gram, one space between words; 0 if none repeats.

        Among equally frequent ones the first in the text counts. Occurrences that overlap all count, so the sum may
        exceed the length of the text. n is at least 2.
        """
        level = self._level(n)
        first = level.top_place
        return level.top_count * int(self._ends[first + n] - self._ends[first] + n - 1) if level.top_count else 0

    def duplicate_characters(self, n: int, every: bool = False) -> int:
        """Characters of the words in repeated n-grams, spaces not counted, no word counted twice; n is at least 2.

        Later occurrences only: read from left to right; an n-gram seen before counts and the reading goes on behind
        it, so that n-grams across its end are neither counted nor remembered. With `every`, all words that stand in
        any repeated n-gram count.
        """
        level = self._level(n)
        if not level.top_count:
            return 0
        if every:
            places = np.asarray(level.places)
            cover = np.zeros(len(self._words) + 1, np.int64)
            cover[places] += 1
            cover[places + n] -= 1
            return int(np.diff(self._ends)[np.cumsum(cover[:-1]) > 0].sum())
        later = _later(level, n)
        ends = self._ends
        if len(later) < _FEW:
            return sum([int(ends[place + n] - ends[place]) for place in later])
        starts = np.asarray(later)
        return int((ends[starts + n] - ends[starts]).sum())


def _sorted_with_order(keys: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray]:
    """(stable argsort of `keys`, the sorted keys); keys are below words ** 2, there are at most `words`."""
    bits = int(words).bit_length()
    if 3 * bits > _KEY_BITS:  # over two million words: no room for key and place in one integer
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << bits) - 1), packed >> bits


def _later(level: _Level, n: int) -> list[int]:
    """Where an n-gram starts that was read before, reading on behind each of them."""
    places, ids = level.places, level.ids
    if isinstance(places, np.ndarray) and isinstance(ids, np.ndarray):  # a list's items are far faster to come by
        places, ids = places.tolist(), ids.tolist()
    seen: set[int] = set()
    found = []
    free = 0
    for place, ngram in zip(places, ids):
        if place < free:
            continue
        if ngram in seen:
            found.append(place)
            free = place + n
        else:
            seen.add(ngram)
    return found
