"""An index of the n-grams of evaluation examples: sorted 64-bit hashes, and which example each is from.

Words are `words.normalised_words`, so case and punctuation do not matter. A hash stands for a run of 8 to 13 words;
among 10^12 words of crawl and 10^6 n-grams of evaluation sets one false match is to be expected in 20 crawls.
"""

from __future__ import annotations

import functools
import io
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.text.words import normalised_words
from beam_pipelines.web.dedup.hashing import constants, mix
from t5x_style.errors import UserError

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_INVERSE = pow(_BASE, -1, 2**64)
_POWER_BLOCK = 16_384
_MAX_FILTER_BITS = 26
_LOCK = threading.Lock()
_INDEXES: dict[str, NgramIndex] = {}  # path -> index, one per process


class Matches(NamedTuple):
    """N-grams of a text that are in the index, by start.

    Attributes:
      starts, lengths: int64, in words.
      entries: int64, places in the index.
    """

    starts: np.ndarray
    lengths: np.ndarray
    entries: np.ndarray


@dataclass(frozen=True)
class NgramIndex:
    """See the module; made by `IndexBuilder`, read by `load`.

    Attributes:
      hashes: uint64, sorted.
      first_example: uint32: the first example that holds the n-gram.
      texts: uint32: how many different texts of examples hold it.
      document_counts: uint32: in how many documents of a training corpus it occurs; None where nobody counted.
      lengths: the n-grams' lengths in words, rising.
      examples: (set, example) names.
      header: configuration and counts, JSON-like.
    """

    hashes: np.ndarray
    first_example: np.ndarray
    texts: np.ndarray
    document_counts: np.ndarray | None
    lengths: Sequence[int]
    examples: Sequence[tuple[str, str]]
    header: Mapping[str, Any]
    _filter: np.ndarray = field(init=False, repr=False)
    _shift: np.uint64 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One byte for every value of a hash's top bits: most n-grams of most documents end here.
        bits = min(_MAX_FILTER_BITS, max(10, (16 * len(self.hashes)).bit_length()))
        object.__setattr__(self, "_shift", np.uint64(64 - bits))
        known = np.zeros(1 << bits, bool)
        known[self.hashes >> self._shift] = True
        object.__setattr__(self, "_filter", known)

    def find(self, words: Sequence[str]) -> Matches:
        """The n-grams of a text's normalised words that are in the index."""
        found = []
        hashed = word_hashes(words)
        for length in self.lengths:
            grams = ngram_hashes(hashed, length)
            starts = np.flatnonzero(self._filter[grams >> self._shift])
            entries = np.searchsorted(self.hashes, grams[starts])
            hit = self.hashes[np.minimum(entries, len(self.hashes) - 1)] == grams[starts]
            found.append((starts[hit], np.full(int(hit.sum()), length), entries[hit]))
        if not found:
            return Matches(*np.zeros((3, 0), np.int64))
        starts, lengths, entries = (np.concatenate(part) for part in zip(*found, strict=True))
        rank = np.lexsort((lengths, starts))
        return Matches(starts[rank], lengths[rank], entries[rank])

    @functools.cached_property
    def sources(self) -> frozenset[str]:
        """Names of all examples; a document that is itself an example has its id here."""
        return frozenset(example for _, example in self.examples)

    def count_documents(self, texts: Iterable[str]) -> NgramIndex:
        """The index with the number of `texts` that each n-gram occurs in."""
        counts = np.zeros(len(self.hashes), np.uint32)
        documents = 0
        for text in texts:
            counts[np.unique(self.find(normalised_words(text)).entries)] += 1
            documents += 1
        header = {**self.header, "counted_documents": documents}
        return NgramIndex(self.hashes, self.first_example, self.texts, counts, self.lengths, self.examples, header)

    def save(self, path: str) -> None:
        """Writes the index, whole or not at all."""
        arrays = {"hashes": self.hashes, "first_example": self.first_example, "texts": self.texts}
        if self.document_counts is not None:
            arrays["document_counts"] = self.document_counts
        header = {**self.header, "lengths": list(self.lengths), "examples": list(self.examples)}
        arrays["header"] = np.frombuffer(json.dumps(header, ensure_ascii=False).encode("utf-8"), np.uint8)
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        with storage.atomic_writer(path) as file:
            file.write(content.getvalue())


@dataclass
class _SetCounts:
    examples: int = 0
    texts: int = 0
    too_short: int = 0
    repeated: int = 0


class IndexBuilder:
    """Collects the n-grams of examples.

    Attributes:
      ngram: words of an n-gram; GPT-3 and NeMo take 13, published practice 8 to 13.
      min_words: a text shorter than `ngram` is one n-gram as a whole if it has so many words, else it is left out.
    """

    def __init__(self, ngram: int = 13, min_words: int = 8):
        if not 1 <= min_words <= ngram:
            raise UserError(f"n-grams of {ngram} words need a minimum from 1 to {ngram}, not {min_words}")
        self.ngram, self.min_words = ngram, min_words
        self._examples: list[tuple[str, str]] = []
        self._hashes: list[np.ndarray] = []
        self._owners: list[np.ndarray] = []
        self._lengths: set[int] = set()
        self._seen: set[tuple[str, ...]] = set()
        self._counts: dict[str, _SetCounts] = {}

    def add(self, set_name: str, example: str, texts: Iterable[str]) -> None:
        """Adds an example; a text that came before, in whatever example, is not counted again."""
        counts = self._counts.setdefault(set_name, _SetCounts())
        counts.examples += 1
        number = len(self._examples)
        self._examples.append((set_name, example))
        for text in texts:
            words = normalised_words(text)
            if len(words) < self.min_words:
                counts.too_short += 1
                continue
            if tuple(words) in self._seen:
                counts.repeated += 1
                continue
            self._seen.add(tuple(words))
            counts.texts += 1
            length = min(self.ngram, len(words))
            grams = np.unique(ngram_hashes(word_hashes(words), length))
            self._lengths.add(length)
            self._hashes.append(grams)
            self._owners.append(np.full(len(grams), number, np.uint32))

    def finish(self, config: Mapping[str, Any]) -> NgramIndex:
        """The index; `config` is kept in its header.

        Raises:
          UserError: there is no n-gram.
        """
        if not self._hashes:
            raise UserError(f"no evaluation text has {self.min_words} words or more; nothing to index")
        hashes, first, texts = np.unique(np.concatenate(self._hashes), return_index=True, return_counts=True)
        owners = np.concatenate(self._owners)[first]
        sets = {name: vars(counts) for name, counts in self._counts.items()}
        header = {"format": 1, "kind": "decontamination_index", "config": dict(config), "sets": sets}
        return NgramIndex(hashes, owners, texts.astype(np.uint32), None, sorted(self._lengths), self._examples, header)


def word_hashes(words: Sequence[str]) -> np.ndarray:
    """uint64 [words]."""
    import xxhash

    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(word.encode()) for word in words), np.uint64, len(words))


def ngram_hashes(words: np.ndarray, length: int) -> np.ndarray:
    """uint64 [max(0, words - length + 1)] of uint64 [words]: one hash per run of `length` words.

    The hash of words h0 h1 ... is the sum of h_i * BASE^i modulo 2^64, mixed with the length. Differences of running
    sums, times a power of the inverse, give it at every place in one pass, however long the n-grams.
    """
    count = len(words) - length + 1
    if count <= 0:
        return np.zeros(0, np.uint64)
    powers, inverses = _powers(len(words) + 1)
    sums = np.zeros(len(words) + 1, np.uint64)
    np.cumsum(words * powers[: len(words)], out=sums[1:])
    return mix((sums[length:] - sums[:count]) * inverses[:count] + constants(1, length)[0])


_POWERS: list[np.ndarray] = []  # BASE^i and BASE^-i as far as a text has needed them


def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    if not _POWERS or len(_POWERS[0]) < count:
        size = -(-count // _POWER_BLOCK) * _POWER_BLOCK
        rows = []
        for base in (_BASE, _INVERSE):
            row = np.full(size, base, np.uint64)
            row[0] = 1
            rows.append(np.multiply.accumulate(row))
        _POWERS[:] = rows
    return _POWERS[0], _POWERS[1]


def load(path: str) -> NgramIndex:
    """The index of a file, read once per process; see `read`."""
    with _LOCK:
        if path not in _INDEXES:
            _INDEXES[path] = read(path)
        return _INDEXES[path]


def read(path: str) -> NgramIndex:
    """Reads an index.

    Raises:
      UserError: there is no such file, or it is no index.
    """
    try:
        with storage.open_read(path) as file:
            arrays = dict(np.load(io.BytesIO(file.read()), allow_pickle=False))
        header = json.loads(arrays["header"].tobytes())
        examples = [(name, example) for name, example in header.pop("examples")]
        counts = arrays.get("document_counts")
        return NgramIndex(
            arrays["hashes"], arrays["first_example"], arrays["texts"], counts, header.pop("lengths"), examples, header
        )
    except FileNotFoundError as error:
        raise UserError(
            f"decontamination index {path!r} does not exist; beam_pipelines.build_decontamination_index writes it"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise UserError(f"{path}: not a decontamination index ({error}); build it again") from error
