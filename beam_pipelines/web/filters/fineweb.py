"""FineWeb's own quality rules (Penedo et al. 2024, section 3.6; https://arxiv.org/abs/2406.17557)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from beam_pipelines.web.document import Document, Filter, Measure
from beam_pipelines.web.filters.gopher_repetition import duplicates
from t5x_style.errors import UserError

# The first five are those of the English release. The others end sentences in Chinese and Japanese, in Arabic script
# (question mark, Urdu full stop), in Indic scripts (danda), Ethiopic, Armenian, Khmer and Burmese; English has none.
END_MARKS = (".", "!", "?", '"', "'", "。", "！", "？", "．", "｡", "؟", "۔", "।", "॥", "።", "፧", "։", "។", "။")


@dataclass(frozen=True)
class FineWebQuality(Filter):
    """Rejects lists, menus and texts whose lines repeat.

    Lines are stripped and not blank. A document without lines is rejected (`lines_low`). Against datatrove's code,
    which takes lines as they stand: an indented line is shorter here, and the spaces are no part of a duplicate.

    Attributes:
      min_punctuated_lines: share of lines that end in one of `end_marks`.
      max_short_lines: share of lines of at most `short_line` characters.
      max_duplicate_line_characters: characters in second and later occurrences of lines, of all but line ends.
      max_newlines_per_word: newlines, those of blank lines too, per word of `Document.words`.

    Raises:
      UserError: a share outside 0..1, a negative ratio or length, no end marks.
    """

    min_punctuated_lines: float = 0.12
    max_short_lines: float = 0.67
    short_line: int = 30
    max_duplicate_line_characters: float = 0.01
    max_newlines_per_word: float = 0.3
    end_marks: Sequence[str] = END_MARKS
    name: str = "fineweb_quality"

    def __post_init__(self) -> None:
        for field in ("min_punctuated_lines", "max_short_lines", "max_duplicate_line_characters"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"FineWebQuality.{field} is a share and must lie in 0..1: {getattr(self, field)}")
        for field in ("short_line", "max_newlines_per_word"):
            if getattr(self, field) < 0:
                raise UserError(f"FineWebQuality.{field} must not be negative: {getattr(self, field)}")
        if isinstance(self.end_marks, str) or not self.end_marks or not all(self.end_marks):
            raise UserError("FineWebQuality.end_marks must be a list of characters")

    @cached_property
    def _end_marks(self) -> tuple[str, ...]:
        return tuple(self.end_marks)

    def measures(self, document: Document) -> Iterator[Measure]:
        """The rules in the order of the attributes."""
        lines, end_marks = document.lines, self._end_marks
        yield Measure("lines", len(lines), minimum=1)
        punctuated = sum([line.endswith(end_marks) for line in lines]) / len(lines)
        yield Measure("punctuated_lines", punctuated, minimum=self.min_punctuated_lines)
        short = sum([len(line) <= self.short_line for line in lines]) / len(lines)
        yield Measure("short_lines", short, maximum=self.max_short_lines)
        newlines = document.text.count("\n")
        share = duplicates(lines)[1] / (len(document.text) - newlines)
        yield Measure("duplicate_line_characters", share, maximum=self.max_duplicate_line_characters)
        # Lines without a word hold no character that is not a space, so words is 0 only if lines is.
        yield Measure("newlines_per_word", newlines / len(document.words), maximum=self.max_newlines_per_word)
