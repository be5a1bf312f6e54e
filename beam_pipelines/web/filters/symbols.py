"""Symbols and markup that prose does not have: braces, emoji, remains of HTML, wiki text, LaTeX, JavaScript.

The default limits are this library's. Of the 558 real pages with hand-checked main text none breaks one, tutorials with
code included; the most they have is .06 braces and .09 tags a word, .19 symbols and .014 emoji a character.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from beam_pipelines.web.document import Document, Filter, Measure
from t5x_style.errors import UserError

_EMOJI = ((0x231A, 0x231C), (0x23E9, 0x23F4), (0x2600, 0x27C0), (0x2B50, 0x2B56), (0x1F000, 0x1FB00))
_SYMBOL, _WORD, _SPACE, _EMOJI_CLASS = range(4)


class CharacterCounts(NamedTuple):
    """How many characters of each class a text has; marks count with the letters, an emoji for each of its parts."""

    symbols: int
    letters_and_digits: int
    spaces: int
    emoji: int


@dataclass(frozen=True)
class Symbols(Filter):
    """Rejects documents made of symbols. A limit of None measures and rejects nothing.

    Attributes:
      max_braces: { and } per word; C4 rejects a document with a single {, which is 0 here.
      max_symbols: share of symbols and punctuation in the characters that are no spaces.
      max_emoji: share of emoji and dingbats in the same.
    """

    max_braces: float | None = 0.1
    max_symbols: float | None = 0.25
    max_emoji: float | None = 0.05
    name: str = "symbols"

    def __post_init__(self) -> None:
        _check_limits(self)

    def measures(self, document: Document) -> Iterator[Measure]:
        """`braces`, `symbols`, `emoji`; a text without words has 0 of each."""
        text = document.text
        braces = text.count("{") + text.count("}")
        yield Measure("braces", braces / max(1, len(document.words)), maximum=self.max_braces, reason="braces")
        counts = count_characters(text)
        visible = max(1, len(text) - counts.spaces)
        yield Measure("symbols", counts.symbols / visible, maximum=self.max_symbols, reason="symbols")
        yield Measure("emoji", counts.emoji / visible, maximum=self.max_emoji, reason="emoji")


@dataclass(frozen=True)
class Markup(Filter):
    """Rejects documents with remains of markup or code, each counted per word. A limit of None rejects nothing.

    Attributes:
      max_html: tags and entities of HTML, as they stay where a page shows or escapes them.
      max_wiki: links, templates, headings and quotes of wiki text.
      max_latex: commands of LaTeX.
      max_javascript: statements of JavaScript.
    """

    max_html: float | None = 0.1
    max_wiki: float | None = 0.05
    max_latex: float | None = 0.2
    max_javascript: float | None = 0.05
    name: str = "markup"

    def __post_init__(self) -> None:
        _check_limits(self)

    def measures(self, document: Document) -> Iterator[Measure]:
        """`html`, `wiki`, `latex`, `javascript`: remains per word."""
        words = max(1, len(document.words))
        for language, count in count_markup(document.text).items():
            yield Measure(
                language, count / words, maximum=getattr(self, f"max_{language}"), reason=f"{language}_remains"
            )


def count_characters(text: str) -> CharacterCounts:
    """Characters by class; 2 ns each.

    Example: "Hi! 😀" -> CharacterCounts(symbols=1, letters_and_digits=2, spaces=1, emoji=1).
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return CharacterCounts(*np.bincount(_classes()[codes >> 8, codes & 0xFF], minlength=4).tolist())


_TAGS = (
    "a|abbr|article|aside|b|blockquote|body|br|button|center|code|dd|div|dl|dt|em|embed|figure|font|footer|form|h[1-6]"
    "|head|header|hr|html|i|iframe|img|input|label|li|link|main|meta|nav|object|ol|option|p|param|pre|script|section"
    "|select|small|source|span|strong|style|sub|sup|table|tbody|td|textarea|th|thead|title|tr|u|ul|video"
)
_COMMANDS = (
    "begin|end|frac|sqrt|sum|int|left|right|cdot|times|alpha|beta|gamma|delta|lambda|sigma|theta|infty|partial|leq|geq"
    "|item|quad|displaystyle|mathbb|mathcal|mathrm|text|to|rightarrow|hline|noindent"
)
_OBJECTS = ("document", "window", "console", "localStorage", "JSON", "jQuery")
# Kind -> (what must stand in a text for the pattern to match at all, pattern): most texts are done with after these.
_MARKUP = {
    "html": (
        ("<", rf"</?(?:{_TAGS})(?:\s[^<>]{{0,500}})?/?>|<!--|<!DOCTYPE"),
        ("&", r"&(?:nbsp|amp|lt|gt|quot|apos|#\d{2,5}|#x[0-9a-f]{2,5});"),
    ),
    "wiki": (
        ("[[", r"\[\[[^\[\]\n]{1,200}\]\]"),
        ("{{", r"\{\{[^{}\n]{1,200}"),
        ("{|", r"\{\|"),
        ("==", r"==(?<![^\n]==)={0,4}+[^=\n]{1,100}={2,6}[ \t]*$"),  # at the start of a line
        ("''", r"'{2,5}+[^'\n]{1,200}'{2,5}"),
        ("<ref", r"<ref\b"),
    ),
    "latex": (("\\", rf"\\(?:{_COMMANDS})(?![A-Za-z])|\\[A-Za-z]{{2,20}}[{{\[]"),),
    "javascript": (
        ("function", r"function\s?\w{0,40}\([^()\n]{0,200}\)\s?\{"),
        ("=>", r"=>\s?\{"),
        ("$(", r"\$\(['\"#.]"),
        ("=", r"(?:var|let|const)\s\w{1,40}\s?=[^=]"),
        *((f"{name}.", rf"{name}\.[a-z]") for name in _OBJECTS),
        *((f".{name}", rf"\.{name}\b") for name in ("addEventListener", "querySelector", "innerHTML", "prototype")),
    ),
}
_PATTERNS = {
    kind: [(literal, re.compile(pattern, re.MULTILINE)) for literal, pattern in patterns]
    for kind, patterns in _MARKUP.items()
}


def count_markup(text: str) -> dict[str, int]:
    r"""Remains of each kind of markup.

    Example: "<p>\frac{1}{2}</p>" -> {"html": 2, "wiki": 0, "latex": 1, "javascript": 0}.
    """
    return {
        kind: sum(len(pattern.findall(text)) for literal, pattern in patterns if literal in text)
        for kind, patterns in _PATTERNS.items()
    }


@functools.cache
def _classes() -> np.ndarray:
    """Class of every character, uint8 [4352, 256]; made once per process in 0.1 s."""
    classes = np.zeros(0x110000, np.uint8)
    for code in range(0x32000):
        character = chr(code)
        if unicodedata.category(character)[0] in "LNM" or character == "_":
            classes[code] = _WORD
        elif character.isspace():
            classes[code] = _SPACE
    for low, high in _EMOJI:
        classes[low:high] = _EMOJI_CLASS
    # Joiners and variation selectors are part of what they stand after.
    classes[[0x200C, 0x200D]] = _WORD
    classes[0xE0100:0xE01F0] = _WORD
    return classes.reshape(-1, 256)


def _check_limits(stage: Symbols | Markup) -> None:
    for field in fields(stage):
        value = getattr(stage, field.name)
        if field.name.startswith("max_") and value is not None and not value >= 0:
            raise UserError(f"{type(stage).__name__}.{field.name} is {value}; a limit is 0 or more, None for no limit")
