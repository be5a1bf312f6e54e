"""BERT's two tasks at once: masked tokens, and whether the second text follows the first (Devlin et al. 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from t5x_style.data.batches import NEXT_SENTENCE, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.masked_lm import MaskedLM
from t5x_style.data.objectives.objective import Example, Piece
from t5x_style.errors import UserError

FOLLOWS, RANDOM = 0, 1  # the labels, in the order of the head's classes


@dataclasses.dataclass(frozen=True, kw_only=True)
class NextSentence(MaskedLM):
    """Pairs of texts of whole sentences, the second of which follows the first or is from another document.

    Sentences [5, 6] and [7, 8] that follow each other, [CLS] 2, [SEP] 3, before tokens are masked as in MaskedLM:

        encoder_target_tokens         [2, 5, 6, 3, 7, 8, 3]
        encoder_token_types           [0, 0, 0, 0, 1, 1, 1]
        encoder_next_sentence_labels  [0, 0, 0, 0, 0, 0, 0]     1 where [7, 8] is from another document

    As in BERT, sentences are gathered until they fill a row (in some documents, drawn with `short_probability`, a
    shorter length of 2 or more), and the first text takes a random number of them. The second is the others, or, half
    the time and always where there is one sentence only, what stands from a random sentence of another document on; the
    others are then used again. What is too long loses tokens at either end of its longer text, which count as cut.

    Unlike in BERT, a sentence longer than a row is cut into several, and the other document is one of the same group. A
    borrowed text counts as no token of the cache: it counts where its own document is read.

    Attributes:
      random_probability: how often the second text is random.
      short_probability: how often the pairs of a document are short.
    """

    group: ClassVar[int] = 16
    least: ClassVar[int] = 2

    random_probability: float = 0.5
    short_probability: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        for option in ("random_probability", "short_probability"):
            if not 0 <= getattr(self, option) <= 1:
                raise UserError(f"NextSentence.{option} is {getattr(self, option)}, must be from 0 to 1")

    @property
    def spec(self) -> BatchSpec:
        return NEXT_SENTENCE

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        super().check(lengths, ids)
        if ids.cls is None or ids.sep is None:
            raise UserError("NextSentence needs [CLS] and [SEP], which the vocabulary has not; cache again with them")
        if ids.ends_sentence is None:
            raise UserError("NextSentence: the cache does not say which tokens end a sentence; cache again")
        if lengths["encoder"] < 5:
            raise UserError(f"NextSentence: rows of {lengths['encoder']} have no room for two texts; lengthen them")

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return True

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        assert ids.ends_sentence is not None, "check"
        room = lengths["encoder"] - 3
        documents = [example.features[self.feature] for example in examples]
        borders = [sentence_borders(ids.ends_sentence[tokens], room) for tokens in documents]
        for index, (tokens, starts) in enumerate(zip(documents, borders)):
            others = [other for other in range(len(documents)) if other != index and len(documents[other])]
            last = len(starts) - 1  # sentences; starts has one border more
            target = room if rng.random() >= self.short_probability else int(rng.integers(2, room + 1))
            first = 0
            while first < last:
                end = int(np.searchsorted(starts, starts[first] + target))  # the sentence that reaches the length
                end = min(max(end, first + 1), last)
                middle = first + 1 if end == first + 1 else int(rng.integers(first + 1, end))
                a = tokens[starts[first] : starts[middle]]
                random = bool(others) and (middle == end or rng.random() < self.random_probability)
                if random:
                    other = others[int(rng.integers(len(others)))]
                    there = int(borders[other][rng.integers(len(borders[other]) - 1)])
                    stop = int(np.searchsorted(borders[other], there + max(target - len(a), 1)))
                    b = documents[other][there : borders[other][min(stop, len(borders[other]) - 1)]]
                    end = middle
                else:
                    b = tokens[starts[middle] : starts[end]]
                own = len(a) if random else len(a) + len(b)
                a, b = fit_pair(a, b, room, rng)
                kept = len(a) if random else len(a) + len(b)
                yield Piece(self._pair(a, b, random, ids, rng), raw=kept, cut=own - kept)
                first = end

    def _pair(
        self, a: np.ndarray, b: np.ndarray, random: bool, ids: Ids, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        cls, sep = np.array([ids.cls], np.int32), np.array([ids.sep], np.int32)
        tokens = np.concatenate([cls, a, sep, b, sep])
        types = np.zeros(len(tokens), np.int32)
        types[len(a) + 2 :] = 1
        labels = np.full(len(tokens), RANDOM if random else FOLLOWS, np.int32)
        own = {"encoder_token_types": types, "encoder_next_sentence_labels": labels}
        return {**self.fields(tokens, ids, rng), **own}


def sentence_borders(ends: np.ndarray, most: int) -> np.ndarray:
    """Where the sentences of a document start, and its end; none longer than `most`.

    >>> sentence_borders(np.array([False, True, False, False, False, False]), 3).tolist()
    [0, 2, 5, 6]
    """
    if not len(ends):
        return np.zeros(1, np.int64)
    borders = np.concatenate([[0], np.flatnonzero(ends[:-1]) + 1, [len(ends)]])
    sizes = np.diff(borders)
    if sizes.max() <= most:
        return borders
    parts = -(-sizes // most)
    within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(borders[:-1], parts) + within * most, len(ends))


def fit_pair(a: np.ndarray, b: np.ndarray, room: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Takes tokens away, one at a time from the longer text (from b where they are even), at its front or its end.

    Lengths 7 and 4 in a room of 8: 4 and 4. Which of the three are lost at the front is drawn, each with p .5.
    """
    if len(a) + len(b) <= room:
        return a, b
    long_b = min(len(b), max(room // 2, room - len(a)))
    return _shorter(a, room - long_b, rng), _shorter(b, long_b, rng)


def _shorter(text: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    front = int(rng.binomial(len(text) - length, 0.5)) if len(text) > length else 0
    return text[front : front + length]
