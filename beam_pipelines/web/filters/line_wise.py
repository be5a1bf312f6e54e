"""RefinedWeb's line-wise corrections (Penedo et al. 2023, appendix G.2; https://arxiv.org/abs/2306.01116).

The paper gives the rules and one example of each; the numbers are those of DCLM's configuration of RefinedWeb
(https://arxiv.org/abs/2406.11794). What follows "3" in a counter and the phrases are lists of our own.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from beam_pipelines.text.words import split_words
from beam_pipelines.web.document import Document, Measure, Outcome, take_measures
from t5x_style.errors import UserError

COUNTED = (
    "bookmark",
    "comment",
    "download",
    "favorite",
    "favourite",
    "follower",
    "following",
    "like",
    "member",
    "point",
    "post",
    "quote",
    "rating",
    "reaction",
    "read",
    "reply",
    "repost",
    "response",
    "retweet",
    "review",
    "save",
    "share",
    "star",
    "subscriber",
    "upvote",
    "downvote",
    "view",
    "vote",
)
_NUMBER = re.compile(r"[.,\s]*\d[\d.,\s]*")
_SPACES_BEFORE = r"(?:(?<!\s)\s++)?"  # looks at a run of spaces once
_ASCII_CAPITALS = string.ascii_uppercase.encode()
_BLANK_LINES = re.compile(r"\n{3,}")


_Split = Callable[[str], list[str]]


class _Phrases(NamedTuple):
    """What to strip from short lines: the edit's name, phrases as `_plain` makes them, where they are, what is left."""

    edit: str
    plain: tuple[str, ...]
    pattern: re.Pattern[str]
    left: str


@dataclass(frozen=True)
class LineWise:
    """Drops lines that are no text, strips buttons from short lines, rejects documents that lose much by it.

    Phrases are stripped first, so a line that holds nothing else goes too. Edits: `sign_in`, `read_more`,
    `items_in_cart` (lines from which a phrase of `strip_start`, `strip_end`, `strip_anywhere` was stripped), and lines
    dropped by the first rule that holds: `lines_one_word`, `lines_upper_case`, `lines_numeric`, `lines_counter`.
    Paragraphs stay apart.

    Attributes:
      max_upper_case: share of a line's characters, spaces included; lines above it are dropped.
      min_line_words: lines with fewer words are dropped.
      counted: what a counter counts, lower case, in the singular; "1 like", "3.5K Likes" and "12 likes:" are counters.
      max_short_line_words: phrases are stripped from lines of at most so many words.
      strip_start, strip_end, strip_anywhere: phrases in any case; space and hyphen are the same.
      max_removed_words: share of the document's words; documents that lose more are rejected.

    Raises:
      UserError: a share outside 0..1, a negative number, an empty phrase.
    """

    max_upper_case: float = 0.5
    min_line_words: int = 2
    counted: Sequence[str] = COUNTED
    max_short_line_words: int = 10
    strip_start: Sequence[str] = ("sign-in",)
    strip_end: Sequence[str] = ("read more...", "read more…")
    strip_anywhere: Sequence[str] = ("items in cart", "item in cart")
    max_removed_words: float = 0.05
    name: str = "line_wise"

    def __post_init__(self) -> None:
        for field in ("max_upper_case", "max_removed_words"):
            if not 0 <= getattr(self, field) <= 1:
                raise UserError(f"LineWise.{field} is a share and must lie in 0..1: {getattr(self, field)}")
        for field in ("min_line_words", "max_short_line_words"):
            if getattr(self, field) < 0:
                raise UserError(f"LineWise.{field} must not be negative: {getattr(self, field)}")
        for field in ("counted", "strip_start", "strip_end", "strip_anywhere"):
            phrases = getattr(self, field)
            if isinstance(phrases, str) or not all(phrase.strip() for phrase in phrases):
                raise UserError(f"LineWise.{field} must be a list of phrases, none empty")

    @cached_property
    def _phrases(self) -> list[_Phrases]:
        start, end, anywhere = map(_alternatives, (self.strip_start, self.strip_end, self.strip_anywhere))
        rules = (
            ("sign_in", self.strip_start, rf"\A{start}(?!\w)\W*", ""),
            ("read_more", self.strip_end, rf"{_SPACES_BEFORE}(?<!\w){end}\Z", ""),
            ("items_in_cart", self.strip_anywhere, rf"{_SPACES_BEFORE}(?<!\w){anywhere}(?!\w)\s*", " "),
        )
        return [
            _Phrases(edit, tuple(map(_plain, phrases)), re.compile(pattern, re.I), left)
            for edit, phrases, pattern, left in rules
            if phrases
        ]

    @cached_property
    def _counter(self) -> re.Pattern[str]:
        plurals = [
            f"{word[:-1]}(?:y|ies)" if word.endswith("y") else f"{word}s?" for word in map(re.escape, self.counted)
        ]
        return re.compile(rf"\W*\d[\d.,]*\s?[kmb]?\+?\s+(?:{'|'.join(plurals)})\W*", re.I)

    def apply(self, document: Document) -> Outcome:
        """The document with its lines corrected; a rejected one keeps its text, and nothing counts as edited."""
        edits: Counter[str] = Counter()
        plain = _plain(document.text)
        present = [rule for rule in self._phrases if any(phrase in plain for phrase in rule.plain)]  # mostly none
        # No line has fewer words than parts between spaces. If the document has no more, then no line has.
        spaced = len(document.words) == len(document.text.split())
        split = str.split if spaced else split_words
        lines = [
            self._correct(line, present, split, edits) if line and not line.isspace() else ""
            for line in document.text.split("\n")
        ]
        changed = document
        if edits:
            text = "\n".join(line for line in lines if line is not None)
            changed = document.replace(text=_BLANK_LINES.sub("\n\n", text).strip())
        verdict, measures = take_measures(self._measures(document, changed))
        if verdict.reason:
            return Outcome(document, verdict, measures)
        return Outcome(changed, verdict, measures, edits)

    def _measures(self, before: Document, after: Document) -> Iterator[Measure]:
        removed = 0.0
        if after is not before:
            removed = (len(before.words) - len(after.words)) / len(before.words)
        yield Measure("removed_words", removed, maximum=self.max_removed_words)

    def _correct(self, line: str, phrases: Sequence[_Phrases], split: _Split, edits: Counter[str]) -> str | None:
        """The line, changed or not; None if it is dropped. The line as it stands, spaces at its ends too, if kept."""
        stripped = line.strip()
        words = len(split(stripped))
        if words <= self.max_short_line_words:
            for rule in phrases:
                shorter, found = rule.pattern.subn(rule.left, stripped)
                if found:
                    edits[rule.edit] += 1
                    line = stripped = shorter.strip()
                    words = len(split(stripped))
        if not stripped:
            return None
        dropped = self._dropped(stripped, words)
        if dropped:
            edits[dropped] += 1
            return None
        return line

    def _dropped(self, line: str, words: int) -> str:
        """The rule by which a line goes, '' if it stays."""
        if words < self.min_line_words:
            return "lines_one_word"
        if _capitals(line) > self.max_upper_case * len(line):
            return "lines_upper_case"
        if _NUMBER.fullmatch(line):
            return "lines_numeric"
        if self.counted and self._counter.fullmatch(line):
            return "lines_counter"
        return ""


def _capitals(line: str) -> int:
    """Upper-case characters."""
    if line.isascii():  # ten times as fast
        return len(line) - len(line.encode().translate(None, _ASCII_CAPITALS))
    return 0 if line.islower() else sum(map(str.isupper, line))


def _plain(phrase: str) -> str:
    """Lower case, hyphens as spaces."""
    return phrase.strip().lower().replace("-", " ")


def _alternatives(phrases: Sequence[str]) -> str:
    """A pattern of any of the phrases."""
    escaped = ["[ -]".join(map(re.escape, _plain(phrase).split(" "))) for phrase in phrases]
    return f"(?:{'|'.join(escaped)})"
