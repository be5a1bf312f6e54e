"""Gopher's repetition rules (Rae et al. 2021, table A1), on words that are split once.

N-grams are compared as 64-bit hashes in numpy. A text without a repeated 5-gram has no longer one, so most texts
end after one sort.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from beam_pipelines.web.document import KEEP, Document, Verdict

_PARAGRAPHS = re.compile(r"\n{2,}")
_LINES = re.compile(r"\n+")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd: the polynomial's base


@dataclass(frozen=True)
class GopherRepetition:
    """Rejects documents that repeat themselves.

    The thresholds are the paper's. `counting` decides what a duplicate is: `later` counts the second and later
    occurrences (as FineWeb does), `every` also the first (as DCLM and Dolma do). An n-gram that occurs once is no
    repetition, however short the text; blank lines are no lines.

    Attributes:
      max_duplicate_lines, max_duplicate_paragraphs: share of lines, of paragraphs.
      max_duplicate_line_characters, max_duplicate_paragraph_characters: their share of the characters.
      max_top_ngram_characters: (n, share) pairs: characters in all occurrences of the most frequent n-gram.
      max_duplicate_ngram_characters: (n, share) pairs: characters in n-grams that occurred before.
    """

    max_duplicate_lines: float = 0.3
    max_duplicate_paragraphs: float = 0.3
    max_duplicate_line_characters: float = 0.2
    max_duplicate_paragraph_characters: float = 0.2
    max_top_ngram_characters: Sequence[tuple[int, float]] = ((2, 0.2), (3, 0.18), (4, 0.16))
    max_duplicate_ngram_characters: Sequence[tuple[int, float]] = (
        (5, 0.15),
        (6, 0.14),
        (7, 0.13),
        (8, 0.12),
        (9, 0.11),
        (10, 0.1),
    )
    counting: Literal["later", "every"] = "later"
    name: str = "gopher_repetition"

    def apply(self, document: Document) -> tuple[Document, Verdict]:
        """See `judge`."""
        return document, self.judge(document.text, document.words)

    def judge(self, text: str, words: list[str]) -> Verdict:
        """The first rule, in the order of the attributes, that `text` with its `words` breaks."""
        text = text.strip()
        if not text:
            return KEEP
        return self._judge_lines(text) or self._judge_ngrams(words, len(text)) or KEEP

    def _judge_lines(self, text: str) -> Verdict | None:
        every = self.counting == "every"
        paragraphs, paragraph_characters = duplicates(_PARAGRAPHS.split(text), every)
        lines, line_characters = duplicates(_LINES.split(text), every)
        for reason, value, threshold in (
            ("duplicate_lines", lines, self.max_duplicate_lines),
            ("duplicate_paragraphs", paragraphs, self.max_duplicate_paragraphs),
            ("duplicate_line_characters", line_characters / len(text), self.max_duplicate_line_characters),
            (
                "duplicate_paragraph_characters",
                paragraph_characters / len(text),
                self.max_duplicate_paragraph_characters,
            ),
        ):
            if value > threshold:
                return Verdict(reason, value, threshold)
        return None

    def _judge_ngrams(self, words: list[str], characters: int) -> Verdict | None:
        ngrams = Ngrams(words)
        for n, threshold in self.max_top_ngram_characters:
            value = ngrams.top_characters(n) / characters
            if value > threshold:
                return Verdict(f"top_{n}_gram", value, threshold)
        for n, threshold in self.max_duplicate_ngram_characters:
            if not ngrams.repeats(n):
                break  # none of n words, so none of more
            value = ngrams.duplicate_characters(n, self.counting == "every") / characters
            if value > threshold:
                return Verdict(f"duplicate_{n}_grams", value, threshold)
        return None


def duplicates(parts: Sequence[str], every: bool = False) -> tuple[float, int]:
    """(share of `parts` that are duplicates, their characters); blank parts are not counted.

    Example: ["a", "b", "a", "a"] -> (0.5, 2); with every=True (0.75, 3).
    """
    parts = [part for part in parts if part and not part.isspace()]
    distinct = set(parts)
    if len(distinct) == len(parts):
        return 0.0, 0
    if not every:
        characters = sum(map(len, parts)) - sum(map(len, distinct))
        return (len(parts) - len(distinct)) / len(parts), characters
    counts: dict[str, int] = {}
    for part in parts:
        counts[part] = counts.get(part, 0) + 1
    repeated = sum(count for count in counts.values() if count > 1)
    return repeated / len(parts), sum(len(part) * count for part, count in counts.items() if count > 1)


class Ngrams:
    """N-grams of one text as arrays of hashes; n-gram i starts at word i."""

    def __init__(self, words: list[str]):
        index: dict[str, int] = {}
        ids = [index.setdefault(word, len(index)) for word in words]
        mixed = (np.arange(1, len(index) + 1, dtype=np.uint64) * _MULTIPLIER) ^ np.uint64(0xD1B54A32D192ED03)
        mixed ^= mixed >> np.uint64(29)
        self._words = (mixed * np.uint64(0xBF58476D1CE4E5B9))[ids] if ids else np.zeros(0, np.uint64)
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._ends = np.concatenate([[0], np.cumsum(lengths)])  # [words + 1]: characters before each word
        self._hashes: dict[int, np.ndarray] = {1: self._words}
        self._ordered: dict[int, np.ndarray] = {}

    def hashes(self, n: int) -> np.ndarray:
        """uint64 [max(words - n + 1, 0)]: one hash per n-gram."""
        if n not in self._hashes:
            shorter = self.hashes(n - 1)
            self._hashes[n] = shorter[:-1] * _MULTIPLIER + self._words[n - 1 :] if len(shorter) else shorter
        return self._hashes[n]

    def _sorted(self, n: int) -> np.ndarray:
        if n not in self._ordered:
            self._ordered[n] = np.sort(self.hashes(n))
        return self._ordered[n]

    def repeats(self, n: int) -> bool:
        """Whether any n-gram occurs twice."""
        ordered = self._sorted(n)
        return bool((ordered[1:] == ordered[:-1]).any())

    def top_characters(self, n: int) -> int:
        """Characters in all occurrences of the most frequent n-gram, one space between words; 0 if none repeats.

        Among equally frequent ones the first in the text counts.
        """
        if not self.repeats(n):
            return 0
        hashes = self.hashes(n)
        ordered = self._sorted(n)
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        counts = np.diff(np.concatenate([starts, [len(ordered)]]))
        most = counts.max()
        first = int(np.flatnonzero(np.isin(hashes, ordered[starts[counts == most]]))[0])
        return int(most) * int(self._ends[first + n] - self._ends[first] + n - 1)

    def duplicate_characters(self, n: int, every: bool = False) -> int:
        """Characters of the words in repeated n-grams, spaces not counted, no word counted twice.

        Later occurrences only: read from left to right; an n-gram seen before counts and the reading goes on behind
        it. With `every`, all words that stand in any repeated n-gram count.
        """
        hashes = self.hashes(n)
        if not every:
            return self._later_characters(hashes.tolist(), n)
        ordered = self._sorted(n)
        repeated = np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])
        cover = np.zeros(len(self._words) + 1, np.int64)
        np.add.at(cover, np.flatnonzero(repeated), 1)
        np.add.at(cover, np.flatnonzero(repeated) + n, -1)
        inside = np.cumsum(cover[:-1]) > 0
        return int(np.diff(self._ends)[inside].sum())

    def _later_characters(self, hashes: list[int], n: int) -> int:
        seen: set[int] = set()
        position = characters = 0
        while position < len(hashes):
            if hashes[position] in seen:
                characters += int(self._ends[position + n] - self._ends[position])
                position += n
            else:
                seen.add(hashes[position])
                position += 1
        return characters
