"""Gopher's repetition rules (Rae et al. 2021, table A1; https://arxiv.org/abs/2112.11446), on words split once.

What the public implementations make of the table:

| | here | datatrove (FineWeb) | DCLM, Dolma |
| --- | --- | --- | --- |
| a duplicate is | `counting`: `later` (default) or `every` | second and later occurrences | every occurrence |
| words | `Document.words` | spaCy's tokens | split at spaces |
| lines | stripped, not blank | as they stand, may be blank | |
| the most frequent n-gram | must occur twice | may occur once | |
| n-grams are equal if | all words are | they are when joined without spaces | all words are |
| characters in duplicate n-grams | spaces not counted, divided by all characters | the same | |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from beam_pipelines.text.repeated_ngrams import RepeatedNgrams
from beam_pipelines.web.document import Document, Filter, Measure
from t5x_style.errors import UserError


@dataclass(frozen=True)
class GopherRepetition(Filter):
    """Rejects documents that repeat themselves.

    The thresholds are the paper's. `counting` decides what a duplicate is: `later` counts the second and later
    occurrences (as FineWeb does), `every` also the first (as DCLM and Dolma do). An n-gram that occurs once is no
    repetition, however short the text; blank lines are no lines. A text without words is kept.

    Attributes:
      max_duplicate_lines, max_duplicate_paragraphs: share of lines, of paragraphs (parts between blank lines).
      max_duplicate_line_characters, max_duplicate_paragraph_characters: their share of the characters.
      max_top_ngram_characters: (n, share) pairs: characters in all occurrences of the most frequent n-gram.
      max_duplicate_ngram_characters: (n, share) pairs: characters in n-grams that occurred before.

    Raises:
      UserError: a share outside 0..1, n-grams of less than 2 words, an unknown `counting`.
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

    def __post_init__(self) -> None:
        if self.counting not in ("later", "every"):
            raise UserError(f"GopherRepetition.counting must be 'later' or 'every', not {self.counting!r}")
        for field in ("max_top_ngram_characters", "max_duplicate_ngram_characters"):
            pairs = getattr(self, field)
            if any(len(pair) != 2 or int(pair[0]) != pair[0] or pair[0] < 2 or pair[1] < 0 for pair in pairs):
                raise UserError(f"GopherRepetition.{field} must be a list of (words, at least 2; share) pairs: {pairs}")
        for field in (
            "max_duplicate_lines",
            "max_duplicate_paragraphs",
            "max_duplicate_line_characters",
            "max_duplicate_paragraph_characters",
        ):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"GopherRepetition.{field} is a share and must lie in 0..1: {getattr(self, field)}")

    def measures(self, document: Document) -> Iterator[Measure]:
        """Lines and paragraphs, then n-grams from short to long."""
        characters = len(document.text.strip())
        if not characters:
            return
        every = self.counting == "every"
        share, inside = duplicates(document.lines, every)
        yield Measure("duplicate_lines", share, maximum=self.max_duplicate_lines)
        line_characters = inside / characters
        share, inside = duplicates(paragraphs(document.text), every)
        yield Measure("duplicate_paragraphs", share, maximum=self.max_duplicate_paragraphs)
        yield Measure("duplicate_line_characters", line_characters, maximum=self.max_duplicate_line_characters)
        maximum = self.max_duplicate_paragraph_characters
        yield Measure("duplicate_paragraph_characters", inside / characters, maximum=maximum)
        ngrams = RepeatedNgrams(document.words)
        for n, maximum in self.max_top_ngram_characters:
            yield Measure(f"top_{n}_gram", ngrams.top_characters(n) / characters, maximum=maximum)
        for n, maximum in self.max_duplicate_ngram_characters:
            share = ngrams.duplicate_characters(n, every) / characters
            yield Measure(f"duplicate_{n}_gram", share, maximum=maximum)


def paragraphs(text: str) -> list[str]:
    r"""The parts of `text` between blank lines, without the spaces around them.

    Example: "a\nb\n\n\n c \n" -> ["a\nb", "c"].
    """
    return [stripped for part in text.split("\n\n") if (stripped := part.strip())]


def duplicates(parts: Sequence[str], every: bool = False) -> tuple[float, int]:
    """(share of `parts` that are duplicates, their characters).

    Example: ["a", "b", "a", "a"] -> (0.5, 2); with every=True (0.75, 3).
    """
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
