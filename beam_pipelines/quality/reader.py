"""Scores text with an n-gram model: sorted numpy tables, all tokens of a text at a time.

An n-gram is found from its end: the last word is a number, and each word before it extends the suffix's number to the
number of the longer n-gram, by bisection in that order's sorted (suffix, word) keys. This is exact, and a token costs
as many look-ups as its longest known n-gram has words, plus one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.quality import arpa
from beam_pipelines.quality.counting import SYMBOLS
from t5x_style.errors import UserError

_WORD_BITS = np.uint64(32)
_LOCK = threading.Lock()
_MODELS: dict[str, NgramModel] = {}  # path -> model, one per process


@dataclass(frozen=True)
class Table:
    """One order of a model; an n-gram's number is its place here.

    Attributes:
      keys: uint64 [n-grams], sorted: (number of the n-gram without its first word) << 32 | first word. Order 1: words.
      log10_probability, log10_backoff: float32 [n-grams].
    """

    keys: np.ndarray
    log10_probability: np.ndarray
    log10_backoff: np.ndarray

    def find(self, suffix: np.ndarray, word: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(place, whether it is there) of every `word` + `suffix`."""
        wanted = (suffix << _WORD_BITS) | word
        place = np.searchsorted(self.keys, wanted)
        np.minimum(place, len(self.keys) - 1, out=place)
        return place, self.keys[place] == wanted


class NgramModel:
    """A backoff model; see `load`."""

    def __init__(self, vocabulary: dict[str, int], tables: Sequence[Table]):
        self._vocabulary, self._tables = vocabulary, tables
        self._unknown, self._start, self._end = (vocabulary[symbol] for symbol in SYMBOLS)

    @property
    def order(self) -> int:
        """Words of the longest n-grams."""
        return len(self._tables)

    @property
    def vocabulary(self) -> list[str]:
        """All words, <unk>, <s> and </s> among them."""
        return list(self._vocabulary)

    def ngrams(self) -> list[int]:
        """Number of n-grams by order."""
        return [len(table.keys) for table in self._tables]

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
        table = self._tables[0]
        place = words.astype(np.int64)
        score = table.log10_probability[place].astype(np.float64)
        # Backoffs of the contexts that end one word before, summed over those longer than what was found.
        open_backoff = np.zeros(len(words))
        open_backoff[1:] = table.log10_backoff[place[:-1]]
        alive = np.arange(1, len(words))  # ends of the n-grams found so far
        suffix = words[1:]
        for length in range(2, self.order + 1):
            table = self._tables[length - 1]
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
    return float(10.0 ** (-log10_probability / (sum(map(len, sentences)) + len(sentences))))


def load(path: str) -> NgramModel:
    """The model of an ARPA file, read once per process.

    Raises:
      UserError: the file is not there, no ARPA file, without <unk>, <s> or </s>, or holds an n-gram without its suffix.
    """
    with _LOCK:
        if path not in _MODELS:
            _MODELS[path] = read(path)
        return _MODELS[path]


def read(path: str) -> NgramModel:
    """`load` without the cache."""
    vocabulary: dict[str, int] = {}
    tables: list[Table] = []
    pending: list[arpa.Entries] = []
    try:
        for entries in arpa.read(path):
            if pending and entries.order != pending[0].order:
                tables.append(_table(path, pending, vocabulary, tables))
                pending = []
            pending.append(entries)
    except FileNotFoundError as error:
        raise UserError(f"language model {path!r} does not exist") from error
    if pending:
        tables.append(_table(path, pending, vocabulary, tables))
    missing = [symbol for symbol in SYMBOLS if symbol not in vocabulary]
    if missing:
        raise UserError(f"{path}: the model has no {', '.join(missing)}")
    return NgramModel(vocabulary, tables)


def _table(path: str, parts: Sequence[arpa.Entries], vocabulary: dict[str, int], lower: Sequence[Table]) -> Table:
    order = parts[0].order
    words = [word for part in parts for word in part.words]
    probability = np.concatenate([part.log10_probability for part in parts])
    backoff = np.concatenate([part.log10_backoff for part in parts])
    if order == 1:
        vocabulary.update({word: number for number, word in enumerate(words)})
        if len(vocabulary) != len(words):
            raise UserError(f"{path}: a word occurs twice among the 1-grams")
        return Table(np.arange(len(words), dtype=np.uint64), _single(probability), _single(backoff))
    try:
        numbers = np.array([vocabulary[word] for word in words], np.uint64).reshape(-1, order)
    except KeyError as error:
        raise UserError(f"{path}: {error} in a {order}-gram is not among the 1-grams") from error
    suffix = numbers[:, -1]
    for length in range(2, order):
        place, found = lower[length - 1].find(suffix, numbers[:, order - length])
        if not found.all():
            ngram = " ".join(words[int(np.argmin(found)) * order :][:order])
            raise UserError(f"{path}: {ngram!r} is there without its last {length} words; use kenlm for this model")
        suffix = place.astype(np.uint64)
    keys = (suffix << _WORD_BITS) | numbers[:, 0]
    rank = np.argsort(keys, kind="stable")
    return Table(keys[rank], _single(probability[rank]), _single(backoff[rank]))


def _single(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)
