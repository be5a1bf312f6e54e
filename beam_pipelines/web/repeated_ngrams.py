"""N-grams of one text that occur at least twice, found exactly, from short ones to long ones.

An n-gram can repeat only where its first n - 1 words repeat. So each n sorts no more than the places that were left by
n - 1: half of a text for pairs of words, a few percent for five. N-grams are numbered, not hashed; a number and its
place share one 64-bit integer, and a plain sort of these is all that numpy has to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_TRUE = np.ones(1, bool)
_KEY_BITS = 63  # of an int64 that are free for key and place


class _Level(NamedTuple):
    """The n-grams of one n that repeat: [places] each, by rising place."""

    places: np.ndarray  # int64: the word at which the n-gram starts
    ids: np.ndarray  # int64: equal for equal n-grams, below the number of words
    top_count: int  # occurrences of the most frequent n-gram
    top_place: int  # where it starts first


class RepeatedNgrams:
    """Repeated n-grams of one text's words; n-gram i starts at word i."""

    def __init__(self, words: Sequence[str]):
        self._count = len(words)
        index = {word: number for number, word in enumerate(dict.fromkeys(words))}
        self._words = np.fromiter(map(index.__getitem__, words), np.int64, len(words))
        self._ends = np.zeros(len(words) + 1, np.int64)  # [words + 1]: characters before each word
        np.cumsum(np.fromiter(map(len, words), np.int64, len(words)), out=self._ends[1:])
        nothing = np.zeros(0, np.int64)
        self._none = _Level(nothing, nothing, 0, 0)
        # n = 0: the empty n-gram stands at every word.
        self._levels = [_Level(np.arange(len(words)), np.zeros(len(words), np.int64), len(words), 0)]

    def _level(self, n: int) -> _Level:
        while len(self._levels) <= n:
            self._levels.append(self._longer(self._levels[-1], len(self._levels)))
        return self._levels[n]

    def _longer(self, shorter: _Level, n: int) -> _Level:
        places, ids = shorter.places, shorter.ids
        if len(places) and places[-1] + n > self._count:  # at most one n-gram more than words ends behind the text
            fitting = int(np.searchsorted(places, self._count - n, side="right"))
            places, ids = places[:fitting], ids[:fitting]
        if len(places) < 2:
            return self._none
        keys = ids * self._count + self._words[places + (n - 1)]  # below words ** 2
        order, ordered = _sorted_with_order(keys, self._count)
        starts = np.flatnonzero(np.concatenate([_TRUE, ordered[1:] != ordered[:-1]]))
        if len(starts) == len(places):
            return self._none
        counts = np.diff(starts, append=len(places))
        most = int(counts.max())
        # Places rise within a group, so its first in the order is its first in the text.
        first = int(places[order[starts[counts == most]].min()])
        groups = np.empty(len(places), np.int64)
        groups[order] = np.repeat(np.arange(len(starts)), counts)
        repeated = counts[groups] > 1
        return _Level(places[repeated], groups[repeated], most, first)

    def top_characters(self, n: int) -> int:
        """Characters in all occurrences of the most frequent n-gram, one space between words; 0 if none repeats.

        Among equally frequent ones the first in the text counts.
        """
        level = self._level(n)
        if not level.top_count or not len(level.places):
            return 0
        first = level.top_place
        return level.top_count * int(self._ends[first + n] - self._ends[first] + n - 1)

    def duplicate_characters(self, n: int, every: bool = False) -> int:
        """Characters of the words in repeated n-grams, spaces not counted, no word counted twice.

        Later occurrences only: read from left to right; an n-gram seen before counts and the reading goes on behind
        it, so that n-grams across its end are neither counted nor remembered. With `every`, all words that stand in
        any repeated n-gram count.
        """
        level = self._level(n)
        if not len(level.places):
            return 0
        if every:
            cover = np.zeros(self._count + 1, np.int64)
            cover[level.places] += 1
            cover[level.places + n] -= 1
            return int(np.diff(self._ends)[np.cumsum(cover[:-1]) > 0].sum())
        later = np.asarray(_later(level.places.tolist(), level.ids.tolist(), n), np.int64)
        return int((self._ends[later + n] - self._ends[later]).sum())


def _sorted_with_order(keys: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(stable argsort of `keys`, the sorted keys); keys are below count ** 2, there are at most `count`."""
    bits = int(count).bit_length()
    if 3 * bits > _KEY_BITS:  # over two million words: no room for key and place in one integer
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort()
    return packed & ((1 << bits) - 1), packed >> bits


def _later(places: list[int], ids: list[int], n: int) -> list[int]:
    """Where an n-gram starts that was read before, reading on behind each of them."""
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
