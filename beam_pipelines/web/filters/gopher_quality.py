"""Gopher's document quality rules (Rae et al. 2021, appendix A1.1; https://arxiv.org/abs/2112.11446).

Where the paper leaves a definition open, datatrove (FineWeb's code) has taken another one than this module:

| rule | here | datatrove 0.9 |
| --- | --- | --- |
| words | `Document.words`, punctuation attached | spaCy's tokens; those of punctuation alone are not counted |
| hashes, ellipses per word | per word as above | per token, punctuation counted |
| lines | that are not blank | all |
| bullets | • ‣ ▪ ● ◦ - * | • - |
| words with a letter | of words as above | of tokens, punctuation counted: fails pages with much punctuation |
| stop words | any case, punctuation around them | exact tokens: "The" is none |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import filterfalse

from beam_pipelines.web.document import Document, Filter, Measure
from t5x_style.errors import UserError

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("•", "‣", "▪", "●", "◦", "-", "*")
ELLIPSES = ("...", "…")


@dataclass(frozen=True)
class GopherQuality(Filter):
    """Rejects documents that do not look like prose.

    The defaults are the paper's. Ratios are per word (`Document.words`) or per line that is not blank. A document
    without words is rejected whatever the minimum.

    Attributes:
      min_words, max_words: both ends are kept.
      min_mean_word_length, max_mean_word_length: characters per word.
      max_hash_ratio, max_ellipsis_ratio: `#` and ellipses per word.
      max_bullet_lines: share of lines that start with a bullet.
      max_ellipsis_lines: share of lines that end in an ellipsis.
      min_alphabetic_words: share of words with at least one letter.
      min_stop_words: distinct words of `stop_words` that occur.
      stop_words: lower case; the defaults are English (see `language_parameters` for other languages).

    Raises:
      UserError: a minimum above its maximum, a negative limit, fewer stop words than are asked for.
    """

    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_length: float = 3.0
    max_mean_word_length: float = 10.0
    max_hash_ratio: float = 0.1
    max_ellipsis_ratio: float = 0.1
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic_words: float = 0.8
    min_stop_words: int = 2
    stop_words: Sequence[str] = STOP_WORDS
    name: str = "gopher_quality"

    def __post_init__(self) -> None:
        for low, high in (("min_words", "max_words"), ("min_mean_word_length", "max_mean_word_length")):
            if not 0 <= getattr(self, low) <= getattr(self, high):
                raise UserError(f"GopherQuality: {low} must lie between 0 and {high} ({getattr(self, high)})")
        for field in ("max_hash_ratio", "max_ellipsis_ratio"):
            if getattr(self, field) < 0:
                raise UserError(f"GopherQuality.{field} must not be negative: {getattr(self, field)}")
        for field in ("max_bullet_lines", "max_ellipsis_lines", "min_alphabetic_words"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"GopherQuality.{field} is a share and must lie in 0..1: {getattr(self, field)}")
        if isinstance(self.stop_words, str) or any(word != word.lower() for word in self.stop_words):
            raise UserError("GopherQuality.stop_words must be a list of lower-case words")
        if self.min_stop_words > len(self._stop_words):
            there = len(self._stop_words)
            raise UserError(f"GopherQuality.min_stop_words is {self.min_stop_words}, but stop_words has {there}")

    @cached_property
    def _stop_words(self) -> frozenset[str]:
        return frozenset(self.stop_words)

    def measures(self, document: Document) -> Iterator[Measure]:
        """The rules in the order of the attributes."""
        text, words, lines = document.text, document.words, document.lines
        count = len(words)
        yield Measure("words", count, max(self.min_words, 1), self.max_words)
        length = sum(map(len, words)) / count
        yield Measure("mean_word_length", length, self.min_mean_word_length, self.max_mean_word_length)
        yield Measure("hash_ratio", text.count("#") / count, maximum=self.max_hash_ratio)
        ellipses = sum(map(text.count, ELLIPSES)) / count
        yield Measure("ellipsis_ratio", ellipses, maximum=self.max_ellipsis_ratio)
        bullets = sum(line.startswith(BULLETS) for line in lines) / len(lines)
        yield Measure("bullet_lines", bullets, maximum=self.max_bullet_lines)
        ellipses = sum(line.endswith(ELLIPSES) for line in lines) / len(lines)
        yield Measure("ellipsis_lines", ellipses, maximum=self.max_ellipsis_lines)
        # Words of letters alone are most of them; a word with punctuation behind it mostly begins with a letter.
        mixed = [word for word in filterfalse(str.isalpha, words) if not word[0].isalpha()]
        without = sum([not any(map(str.isalpha, word)) for word in mixed])
        yield Measure("alphabetic_words", (count - without) / count, minimum=self.min_alphabetic_words)
        yield Measure("stop_words", self._count_stop_words(document), minimum=self.min_stop_words)

    def _count_stop_words(self, document: Document) -> int:
        """Distinct stop words among the normalised words, which most texts need not be split into for it."""
        missing = [word for word in self._stop_words if word not in document.words]
        found = len(self._stop_words) - len(missing)
        if missing:
            lowered = document.text.lower()
            hidden = {word for word in missing if word in lowered}  # by capitals, punctuation, or in longer words
            if hidden:
                found += len(hidden.intersection(document.normalised_words))
        return found
