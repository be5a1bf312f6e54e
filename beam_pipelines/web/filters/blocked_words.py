"""Blocked words: a document that holds one goes (C4; Raffel et al. 2020, section 2.2)."""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from beam_pipelines.files.list_files import digest, read_lines
from beam_pipelines.text.words import normalised_words
from beam_pipelines.web.document import Document, Filter, Measure
from t5x_style.errors import UserError

# Written without spaces: entries are found inside longer runs, as in mC4 (its code has ja, th, zh).
SUBSTRING_LANGUAGES = frozenset({"zh", "wuu", "yue", "ja", "th", "lo", "km", "my", "bo"})

_LOCK = threading.Lock()
_LISTS: dict[tuple[str, str], BlockedList] = {}  # one per file, identity and process


@dataclass(frozen=True)
class BlockedWords(Filter):
    """Rejects documents with blocked words or phrases in their language.

    Words are compared in lower case and whole, so "class" holds no blocked word; phrases are words in a row, whatever
    stands between them ("free-porn"). Entries with other characters than letters and spaces ("a$$") are found as they
    are written. In languages without spaces an entry is found anywhere.

    Attributes:
      folder: of files named by language code, one entry a line, as LDNOOBW publishes them; None is the short English
        list that comes with this package.
      languages: whose files are read.
      missing: what becomes of documents in other languages: `keep` or `reject`. A document without a language (no
        `Language` stage came before) is held against the first list.
      max_fraction: largest share of the words that may be blocked; 0 is C4's rule, any rejects.
      keep_fraction: share of the documents with blocked words that stay nevertheless, so that models know of them
        (mC4's public re-implementations do); drawn by the document's id, always the same ones.
    """

    folder: str | None = None
    languages: Sequence[str] = ("en",)
    missing: Literal["keep", "reject"] = "keep"
    max_fraction: float = 0.0
    keep_fraction: float = 0.0
    name: str = "blocked_words"
    lists_identity: str = field(init=False, repr=False)  # so that changed lists are another configuration

    def __post_init__(self) -> None:
        if isinstance(self.languages, str) or not self.languages:
            raise UserError(f"BlockedWords.languages is {self.languages!r}; give a list such as ['en', 'de']")
        if self.missing not in ("keep", "reject"):
            raise UserError(f"BlockedWords.missing is {self.missing!r}; choose keep or reject")
        for parameter in ("max_fraction", "keep_fraction"):
            if not 0 <= getattr(self, parameter) <= 1:
                raise UserError(f"BlockedWords.{parameter} is {getattr(self, parameter)}; it is a share, from 0 to 1")
        object.__setattr__(self, "lists_identity", digest([self._path(language) for language in self.languages]))

    def measures(self, document: Document) -> Iterator[Measure]:
        """`blocked_words`: the share of words that are blocked."""
        language = document.language or self.languages[0]
        if language not in self.languages:
            allowed = 1.0 if self.missing == "keep" else 0.0
            yield Measure("language_without_list", 1.0, maximum=allowed, reason="no_list_for_language")
            return
        found = self._list(language).count(document, language)
        fraction = min(1.0, found / len(document.words)) if found else 0.0  # entries may overlap
        lucky = fraction > self.max_fraction and _draw(document.id) < self.keep_fraction
        yield Measure("blocked_words", fraction, maximum=None if lucky else self.max_fraction, reason="blocked_words")

    def _path(self, language: str) -> str:
        if self.folder is None:
            return str(importlib.resources.files("beam_pipelines.web") / "resources" / "blocked_words" / language)
        return f"{self.folder.rstrip('/')}/{language}"

    def _list(self, language: str) -> BlockedList:
        key = self._path(language), self.lists_identity
        with _LOCK:
            if key not in _LISTS:
                _LISTS[key] = BlockedList.of(read_lines(key[0]))
            return _LISTS[key]


@dataclass(frozen=True)
class BlockedList:
    """The entries of one language, by how they are looked for.

    Attributes:
      words: entries of one word.
      phrases: first word -> the word lists of the phrases that begin with it.
      literal: matches entries with punctuation inside; None without any.
      entries: all, in lower case.
    """

    words: frozenset[str]
    phrases: dict[str, list[list[str]]]
    literal: re.Pattern[str] | None
    entries: tuple[str, ...]

    @classmethod
    def of(cls, entries: Sequence[str]) -> BlockedList:
        """Sorts entries.

        Example: ["porn", "sex cam", "a$$"] -> words {"porn"}, phrases {"sex": [["sex", "cam"]]}, literal a\\$\\$.
        """
        words, literal = set(), []
        phrases: dict[str, list[list[str]]] = {}
        lowered = tuple(dict.fromkeys(" ".join(entry.lower().split()) for entry in entries))
        for entry in lowered:
            parts = normalised_words(entry)
            if " ".join(parts) != entry.replace("-", " "):
                literal.append(entry)
            elif len(parts) == 1:
                words.add(entry)
            else:
                phrases.setdefault(parts[0], []).append(parts)
        alternatives = "|".join(map(re.escape, sorted(literal, key=len, reverse=True)))
        pattern = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)") if literal else None
        return cls(frozenset(words), phrases, pattern, lowered)

    def count(self, document: Document, language: str) -> int:
        """How many entries the document holds, each time counted."""
        if language in SUBSTRING_LANGUAGES:
            text = document.text.lower()
            return sum(text.count(entry) for entry in self.entries)
        words = document.normalised_words
        unique = set(words)
        found = sum(map(self.words.__contains__, words)) if not self.words.isdisjoint(unique) else 0
        if not unique.isdisjoint(self.phrases):
            found += self._count_phrases(words)
        if self.literal is not None:
            found += sum(1 for _ in self.literal.finditer(document.text.lower()))
        return found

    def _count_phrases(self, words: list[str]) -> int:
        return sum(
            words[place : place + len(phrase)] == phrase
            for place, word in enumerate(words)
            if word in self.phrases
            for phrase in self.phrases[word]
        )


def _draw(identifier: str) -> float:
    """A number in [0, 1) that belongs to the document."""
    value = hashlib.blake2b(
        identifier.encode("utf-8", "surrogatepass"), digest_size=8, person=b"blocked_words"
    ).digest()
    return int.from_bytes(value, "big") / 2**64
