"""Words in an address that tell what the page is about, weighted by how sure a sign they are."""

from __future__ import annotations

import functools
import importlib.resources
import re
import threading
from dataclasses import dataclass
from urllib.parse import unquote

from beam_pipelines.files.list_files import read_lines
from t5x_style.errors import UserError

SEVERITIES = ("strict", "hard", "soft")
_WORD = re.compile(r"[^\W_]+")
# What joins words inside a name. `/`, `?`, `&` and `=` do not: "/olives/export" holds no word across the slash.
_JOINTS = re.compile(r"[\s.,_~+%'!*:;()\[\]-]+")
# The same for ASCII, where deleting and replacing bytes is ten times faster.
_ASCII_JOINTS = bytes(code for code in range(128) if _JOINTS.match(chr(code)))
_ASCII_WORDS = bytes(code if _WORD.match(chr(code)) and code < 128 else 32 for code in range(256))
_LONGEST_URL = 10_000
_LOCK = threading.Lock()
_LOADED: dict[tuple, UrlWords] = {}  # one per configuration and process


@dataclass(frozen=True)
class UrlWords:
    """Three lists, by severity, as UTF-8.

    Attributes:
      strict: found anywhere, also inside longer words and across `-`, `.`, `_` and other joints.
      hard: found as whole words; one is enough with the usual weights.
      soft: found as whole words; two different ones are needed with the usual weights.
    """

    strict: tuple[bytes, ...]
    hard: frozenset[bytes]
    soft: frozenset[bytes]

    @functools.cached_property
    def _any_strict(self) -> re.Pattern[bytes]:
        """Matches where a strict entry does; one pass whatever their number."""
        tree: dict[int, dict] = {}
        for entry in self.strict:
            node = tree
            for byte in entry:
                node = node.setdefault(byte, {})
            node[-1] = {}  # an entry ends here
        return re.compile(_alternatives(tree) if self.strict else b"(?!)")

    def counts(self, url: str) -> tuple[int, int, int]:
        """Different entries of each list in the address.

        Example: with the lists (pornhub), (porn), (sexy, girls): "http://porn-hub.com/sexy/girls.html" -> (1, 1, 2).
        """
        head, separator, rest = url[:_LONGEST_URL].partition("://")
        text = rest if separator and head.isalpha() else url[:_LONGEST_URL]
        text = (unquote(text, errors="replace") if "%" in text else text).lower()
        if text.isascii():
            raw = text.encode()
            joined, words = raw.translate(None, _ASCII_JOINTS), raw.translate(_ASCII_WORDS).split()
        else:
            joined, words = _parts(text)
        strict = 0
        if self._any_strict.search(joined):
            strict = sum(entry in joined for entry in self.strict)
        if self.hard.isdisjoint(words) and self.soft.isdisjoint(words):
            return strict, 0, 0
        return strict, len(self.hard.intersection(words)), len(self.soft.intersection(words))


def _parts(text: str) -> tuple[bytes, list[bytes]]:
    """(text without joints, words), for any characters."""
    return _JOINTS.sub("", text).encode(errors="replace"), [
        word.encode(errors="replace") for word in _WORD.findall(text)
    ]


def _alternatives(tree: dict[int, dict]) -> bytes:
    """A pattern of what the tree holds; behind the end of an entry nothing more needs to match."""
    if -1 in tree:
        return b""
    branches = [re.escape(bytes([byte])) + _alternatives(tree[byte]) for byte in sorted(tree)]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"


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
    if (loaded := _LOADED.get(key)) is not None:
        return loaded
    with _LOCK:
        if key not in _LOADED:
            first, second, third = list_paths(*key)
            _LOADED[key] = UrlWords(
                tuple(dict.fromkeys(_joined(entry, first) for entry in read_lines(first))),
                frozenset(_single(entry, second) for entry in read_lines(second)),
                frozenset(_single(entry, third) for entry in read_lines(third)),
            )
        return _LOADED[key]


def _joined(entry: str, path: str) -> bytes:
    joined = _JOINTS.sub("", entry.lower())
    if not joined:
        raise UserError(f"{path}: {entry!r} holds no letter or digit; delete the line")
    return joined.encode()


def _single(entry: str, path: str) -> bytes:
    word = entry.lower()
    if not _WORD.fullmatch(word):
        raise UserError(f"{path}: {entry!r} is not a single word; only strict entries may have parts")
    return word.encode()
