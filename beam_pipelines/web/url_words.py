"""Words in an address that tell what the page is about, weighted by how sure a sign they are."""

from __future__ import annotations

import importlib.resources
import re
import threading
from dataclasses import dataclass
from urllib.parse import unquote

from beam_pipelines.web.list_files import read_lines
from t5x_style.errors import UserError

SEVERITIES = ("strict", "hard", "soft")
_WORD = re.compile(r"[^\W_]+")
# What separates words inside a name. `/`, `?`, `&` and `=` stay: "/olives/export" holds no word across the slash.
_JOINTS = re.compile(r"[\s.,_~+%'!*:;()\[\]-]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_LONGEST_URL = 10_000
_LOCK = threading.Lock()
_LOADED: dict[tuple, UrlWords] = {}  # one per configuration and process


@dataclass(frozen=True)
class UrlWords:
    """Three lists, by severity.

    Attributes:
      strict: found anywhere, also inside longer words and across `-`, `.`, `_` and other joints.
      hard: found as whole words; one is enough with the usual weights.
      soft: found as whole words; two different ones are needed with the usual weights.
    """

    strict: tuple[str, ...]
    hard: frozenset[str]
    soft: frozenset[str]

    def found(self, url: str) -> tuple[list[str], list[str], list[str]]:
        """Different entries of each list in the address, in the lists' order (strict) or sorted.

        Example: with the lists (pornhub), (porn), (sexy, girls): "http://porn-hub.com/sexy/girls.html" ->
        (["pornhub"], ["porn"], ["girls", "sexy"]).
        """
        text = unquote(_SCHEME.sub("", url[:_LONGEST_URL], count=1), errors="replace").lower()
        joined = _JOINTS.sub("", text)
        words = set(_WORD.findall(text))
        return [part for part in self.strict if part in joined], sorted(words & self.hard), sorted(words & self.soft)


def list_paths(strict: str | None, hard: str | None, soft: str | None) -> list[str]:
    """The lists' files; None is the short one that comes with this package, English and some other languages."""
    own = importlib.resources.files("beam_pipelines.web") / "resources" / "url_words"
    given = zip(SEVERITIES, (strict, hard, soft), strict=True)
    return [path or str(own / f"{severity}.txt") for severity, path in given]


def load(strict: str | None = None, hard: str | None = None, soft: str | None = None) -> UrlWords:
    """The lists in files with one entry a line, as for `list_paths`; read once per process.

    Raises:
      UserError: a list is missing, or an entry cannot match.
    """
    key = (strict, hard, soft)
    with _LOCK:
        if key not in _LOADED:
            first, second, third = list_paths(*key)
            _LOADED[key] = UrlWords(
                tuple(dict.fromkeys(_joined(entry, first) for entry in read_lines(first))),
                frozenset(_single(entry, second) for entry in read_lines(second)),
                frozenset(_single(entry, third) for entry in read_lines(third)),
            )
        return _LOADED[key]


def _joined(entry: str, path: str) -> str:
    joined = _JOINTS.sub("", entry.lower())
    if not joined:
        raise UserError(f"{path}: {entry!r} holds no letter or digit; delete the line")
    return joined


def _single(entry: str, path: str) -> str:
    word = entry.lower()
    if not _WORD.fullmatch(word):
        raise UserError(f"{path}: {entry!r} is not a single word; only strict entries may have parts")
    return word
