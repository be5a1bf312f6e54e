"""Scores text with an n-gram model: numpy hash tables, all tokens of a text at a time.

An n-gram is found from its end: the last word is a number, and each word before it extends the suffix's number to the
number of the longer n-gram, by the exact key (suffix, word) in that order's table. A token costs as many look-ups as
its longest known n-gram has words, plus one.
"""

from __future__ import annotations

import itertools
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.quality import arpa
from beam_pipelines.quality.counting import SYMBOLS
from t5x_style.errors import UserError

_WORD_BITS = np.uint64(32)
_LARGEST_EXPONENT = 300.0  # beyond, a float overflows; only models from elsewhere have such probabilities
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOCK = threading.Lock()
_MODELS: dict[str, NgramModel] = {}  # path -> model, one per process


@dataclass(frozen=True)
class Table:
    """One order of a model, open addressing with linear probing; an n-gram's number is its slot.

    Attributes:
      keys: uint64 [slots]: (number of the n-gram without its first word) << 32 | first word, or _EMPTY. The number of
        a word is its slot in the table of order 1, which has no keys: its slots are the words in order.
      log10_probability, log10_backoff: float32 [slots].
      shift: a key's first slot is its hash >> shift.
    """

    keys: np.ndarray
    log10_probability: np.ndarray
    log10_backoff: np.ndarray
    shift: int

    @classmethod
    def build(cls, keys: np.ndarray, probability: np.ndarray, backoff: np.ndarray) -> Table:
        """The table of distinct `keys`; between 1.5 and 3 slots a key."""
        bits = max(4, int(1.5 * len(keys)).bit_length())
        home = _first_slot(keys, 64 - bits)
        rank = np.argsort(home, kind="stable")
        # Each key in turn takes its first slot or the one behind its predecessor: slot = max(home, slot before + 1).
        steps = np.arange(len(keys))
        slot = np.maximum.accumulate(home[rank] - steps) + steps
        size = (
            max(1 << bits, int(slot[-1]) + 1 if len(slot) else 0) + 1
        )  # the last slot stays empty: a search ends there
        table = cls(np.full(size, _EMPTY, np.uint64), np.zeros(size, np.float32), np.zeros(size, np.float32), 64 - bits)
        table.keys[slot] = keys[rank]
        table.log10_probability[slot] = probability[rank]
        table.log10_backoff[slot] = backoff[rank]
        return table

    def __len__(self) -> int:
        """Number of n-grams."""
        return int(np.count_nonzero(self.keys != _EMPTY))

    def find(self, suffix: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(slot, whether it is there) of every `word` + `suffix`."""
        wanted = (suffix << _WORD_BITS) | word
        slot = _first_slot(wanted, self.shift)
        there = self.keys[slot]
        found = there == wanted
        pending = np.flatnonzero(~found & (there != _EMPTY))
        while len(pending):
            slot[pending] += 1
            there = self.keys[slot[pending]]
            hit = there == wanted[pending]
            found[pending[hit]] = True
            pending = pending[~hit & (there != _EMPTY)]
        return slot, found


def _first_slot(keys: np.ndarray, shift: int) -> np.ndarray:
    mixed = (keys ^ (keys >> _WORD_BITS)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(shift)).astype(np.int64)


class NgramModel:
    """A backoff model; see `load`."""

    def __init__(self, vocabulary: dict[str, int], tables: Sequence[Table]):
        self._vocabulary, self.tables = vocabulary, tables
        self._unknown, self._start, self._end = (vocabulary[symbol] for symbol in SYMBOLS)

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self.tables)

    @property
    def vocabulary(self) -> list[str]:
        """All words, <unk>, <s> and </s> among them."""
        return list(self._vocabulary)

    def ngrams(self) -> list[int]:
        """Number of n-grams by order."""
        return [len(table) for table in self.tables]

    def token_scores(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """log10 p(token | tokens before it in its sentence) of all tokens, each sentence's </s> behind its own.

        Returns:
          float64 [tokens + sentences]. Words outside the vocabulary count as <unk>.
        """
        number, unknown = self._vocabulary.get, self._unknown
        stream: list[int] = []
        for sentence in sentences:
            stream.append(self._start)
            stream += [number(word, unknown) for word in sentence]
            stream.append(self._end)
        words = np.array(stream, np.uint64)
        return self._scores(words)[words != self._start]

    def _scores(self, words: np.ndarray) -> np.ndarray:
        """log10 probabilities of every word of a stream of sentences; those of <s> mean nothing.

        No n-gram holds <s> but at its start, so none is found across two sentences.
        """
        table = self.tables[0]
        place = words.astype(np.int64)
        score = table.log10_probability[place].astype(np.float64)
        # Backoffs of the contexts that end one word before, summed over those longer than what was found.
        open_backoff = np.zeros(len(words))
        open_backoff[1:] = table.log10_backoff[place[:-1]]
        alive = np.arange(1, len(words))  # ends of the n-grams found so far
        suffix = words[1:]
        for length in range(2, self.order + 1):
            table = self.tables[length - 1]
            place, found = table.find(suffix, words[alive - length + 1])
            alive, place = alive[found], place[found]
            score[alive] = table.log10_probability[place]
            open_backoff[alive] = 0.0
            # A context one word longer is open for the word behind it, found there or not.
            behind = alive + 1
            inside = behind < len(words)
            open_backoff[behind[inside]] += table.log10_backoff[place[inside]]
            first = alive >= length
            alive, suffix = alive[first], place[first].astype(np.uint64)
        return score + open_backoff

    def sentence_scores(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """float64 [sentences]: log10 probability of each, </s> included."""
        if not len(sentences):
            return np.zeros(0)
        starts = np.cumsum([0, *(len(sentence) + 1 for sentence in sentences[:-1])])
        return np.add.reduceat(self.token_scores(sentences), starts)


def perplexity(log10_probability: float, sentences: Sequence[Sequence[str]]) -> float:
    """Perplexity by token, every sentence's end a token of its own, as CCNet computes it.

    10 ** (-log10_probability / (tokens + sentences)). Example: a sentence of 3 tokens with log10 probability -8 has
    perplexity 10 ** (8 / 4) = 100.
    """
    exponent = -log10_probability / (sum(map(len, sentences)) + len(sentences))
    return float(10.0 ** min(exponent, _LARGEST_EXPONENT))


def load(path: str) -> NgramModel:
    """The model of a file, read once per process; see `read`."""
    with _LOCK:
        if path not in _MODELS:
            _MODELS[path] = read(path)
        return _MODELS[path]


def save(model: NgramModel, path: str) -> None:
    """Writes the tables (.npz), which are read a hundred times as fast as ARPA."""
    arrays: dict[str, Any] = {"words": np.frombuffer("\n".join(model.vocabulary).encode("utf-8"), np.uint8)}
    for order, table in enumerate(model.tables, 1):
        arrays[f"keys{order}"] = table.keys
        arrays[f"scores{order}"] = np.stack([table.log10_probability, table.log10_backoff])
    with storage.atomic_writer(path) as file:
        np.savez(file, shifts=np.array([table.shift for table in model.tables]), **arrays)


def read(path: str) -> NgramModel:
    """Reads an ARPA file or the tables that `save` wrote.

    Raises:
      UserError: the file is not there, neither of the two, without <unk>, <s> or </s>, or holds an n-gram without its
        suffix.
    """
    try:
        with storage.open_read(path) as file:
            saved = file.read(2) == b"PK"
            if saved:
                file.seek(0)
                vocabulary, tables = _saved(np.load(file, allow_pickle=False))
    except FileNotFoundError as error:
        raise UserError(f"language model {path!r} does not exist") from error
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: the tables cannot be read ({error}); write them again from the ARPA file") from error
    if not saved:
        vocabulary, tables = _parsed(path)
    missing = [symbol for symbol in SYMBOLS if symbol not in vocabulary]
    if missing:
        raise UserError(f"{path}: the model has no {', '.join(missing)}")
    return NgramModel(vocabulary, tables)


def _saved(arrays: Any) -> tuple[dict[str, int], list[Table]]:
    words = arrays["words"].tobytes().decode("utf-8").split("\n")
    tables = [
        Table(arrays[f"keys{order}"], arrays[f"scores{order}"][0], arrays[f"scores{order}"][1], int(shift))
        for order, shift in enumerate(arrays["shifts"], 1)
    ]
    return {word: number for number, word in enumerate(words)}, tables


def _parsed(path: str) -> tuple[dict[str, int], list[Table]]:
    vocabulary: dict[str, int] = {}
    tables: list[Table] = []
    for order, group in itertools.groupby(arpa.read(path), key=lambda entries: entries.order):
        parts = [(_numbers(path, part, vocabulary), part.log10_probability, part.log10_backoff) for part in group]
        numbers, probability, backoff = map(np.concatenate, zip(*parts, strict=True))
        if order == 1:
            if len(vocabulary) != len(numbers):
                raise UserError(f"{path}: a word occurs twice among the 1-grams")
            tables.append(Table(numbers[:, 0], probability.astype(np.float32), backoff.astype(np.float32), 0))
        else:
            tables.append(_table(path, numbers, probability, backoff, tables))
    return vocabulary, tables


def _numbers(path: str, entries: arpa.Entries, vocabulary: dict[str, int]) -> np.ndarray:
    """uint64 [n-grams, order]; the words of 1-grams are added to the vocabulary."""
    if entries.order == 1:
        for word in entries.words:
            vocabulary.setdefault(word, len(vocabulary))
    try:
        numbers = [vocabulary[word] for word in entries.words]
    except KeyError as error:
        raise UserError(f"{path}: {error} in a {entries.order}-gram is not among the 1-grams") from error
    return np.array(numbers, np.uint64).reshape(-1, entries.order)


def _table(
    path: str, numbers: np.ndarray, probability: np.ndarray, backoff: np.ndarray, lower: Sequence[Table]
) -> Table:
    order = numbers.shape[1]
    suffix = numbers[:, -1]
    for length in range(2, order):
        slot, found = lower[length - 1].find(suffix, numbers[:, order - length])
        if not found.all():
            raise UserError(
                f"{path}: {order}-gram number {int(np.argmin(found)) + 1} is there without its last {length} words; "
                "read this model with kenlm"
            )
        suffix = slot.astype(np.uint64)
    keys = (suffix << _WORD_BITS) | numbers[:, 0]
    if len(np.unique(keys)) != len(keys):
        raise UserError(f"{path}: a {order}-gram occurs twice")
    return Table.build(keys, probability, backoff)
