"""Traditional to simplified Chinese with OpenCC (Apache-2.0; https://github.com/BYVoid/OpenCC)."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.web.document import Document, Outcome
from t5x_style.errors import UserError

CONVERSIONS = ("t2s", "tw2s", "tw2sp", "hk2s", "hk2sp")
# Han and the radicals; where there is none, there is nothing to convert. Hangul and Kana alone are left alone.
_HAN = re.compile("[\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_SURROGATES = re.compile("([\ud800-\udfff]+)")

_LOCK = threading.Lock()
_CONVERTERS: dict[str, Any] = {}  # they do not pickle, so each worker process loads its own, once (4 ms)


@dataclass(frozen=True)
class SimplifyChinese:
    """Writes Chinese documents in simplified characters; by phrases, so that 乾燥 becomes 干燥 and 乾坤 stays.

    18 million characters a second on one core. Japanese must not be converted (it would turn 実験 into neither
    language), hence the languages.

    Attributes:
      conversion: `t2s`; `tw2s`, `hk2s` for Taiwan's and Hong Kong's character variants; `tw2sp`, `hk2sp` also for the
        vocabulary (軟體 becomes 软件 rather than 软体).
      languages: of `Document.language`, set by the stage `Language` before this one; empty converts every document.

    `edits` counts `characters_simplified`, the characters that differ; a phrase of another length counts as the longer
    of the two.
    """

    conversion: str = "t2s"
    languages: Sequence[str] = ("zh", "wuu", "yue")
    name: str = "simplify_chinese"

    def __post_init__(self) -> None:
        if self.conversion not in CONVERSIONS:
            raise UserError(f"SimplifyChinese.conversion is {self.conversion!r}; choose from {', '.join(CONVERSIONS)}")
        if isinstance(self.languages, str):
            raise UserError(f"SimplifyChinese.languages is a list: write [{self.languages!r}]")

    def apply(self, document: Document) -> Outcome:
        """See `DocumentStage`; rejects nothing."""
        if self.languages and document.language not in self.languages:
            return Outcome(document)
        text, changed = simplify(document.text, self.conversion)
        if not changed:
            return Outcome(document)
        return Outcome(document.replace(text=text), edits={"characters_simplified": changed})


def simplify(text: str, conversion: str = "t2s") -> tuple[str, int]:
    """(the text in simplified characters, how many changed).

    Example: "乾燥的臺灣" -> ("干燥的台湾", 3).
    """
    if text.isascii() or not _HAN.search(text):
        return text, 0
    converter = _converter(conversion)
    try:
        simple = converter.convert(text)
    except UnicodeEncodeError:  # lone surrogates
        parts = _SURROGATES.split(text)
        parts[::2] = map(converter.convert, parts[::2])
        simple = "".join(parts)
    return simple, _differences(text, simple)


def _differences(before: str, after: str) -> int:
    if before == after:
        return 0
    if len(before) == len(after):
        return sum(map(str.__ne__, before, after))
    return _differences_by_line(before, after)


def _differences_by_line(before: str, after: str) -> int:
    """Where phrases change the length, what is the same at both ends of a line is taken off."""
    total = 0
    for old, new in zip(before.split("\n"), after.split("\n")):
        if len(old) == len(new):
            total += sum(map(str.__ne__, old, new))
            continue
        start = 0
        while start < min(len(old), len(new)) and old[start] == new[start]:
            start += 1
        end = 0
        while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
            end += 1
        total += max(len(old), len(new)) - start - end
    return total


def _converter(conversion: str) -> Any:
    with _LOCK:
        if conversion not in _CONVERTERS:
            from opencc import OpenCC

            _CONVERTERS[conversion] = OpenCC(conversion)
        return _CONVERTERS[conversion]
