"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, section 3; conventions of Heafield et al. 2013).

The conventions are those of KenLM's lmplz, so that the models are interchangeable:

- The highest order and n-grams that begin with <s> count occurrences; all others count distinct words before them.
- Discounts D1, D2, D3+ per order from counts of counts n1..n4: Dk = k - (k + 1) Y n(k+1) / nk, Y = n1 / (n1 + 2 n2).
  Where one of n1..n3 is 0 or a discount falls out of [0, k], the order takes the fallback 0.5, 1, 1.5 and says so.
- Unigrams are interpolated with the uniform distribution over the vocabulary without <s>; <unk> has nothing else.
- Pruning by order removes n-grams that occur at most `threshold` times; their mass goes to the backoff.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from beam_pipelines.quality.counting import START, Counts
from t5x_style.errors import UserError

FALLBACK = (0.5, 1.0, 1.5)
_WORD_BITS = np.uint64(32)
_NOWHERE = np.uint64(0xFFFFFFFF)
_SMALLEST = 1e-99  # ARPA files write zero as -99


@dataclass(frozen=True)
class Level:
    """The n-grams of one order in suffix order (those of order 1: every word by its number).

    Attributes:
      rows: uint32 [n-grams, order].
      log10_probability, log10_backoff: float64 [n-grams]; no backoff at the highest order.
      discounts: (D1, D2, D3+).
      fell_back: the discounts are the fallback's.
      pruned: n-grams that were left out.
    """

    rows: np.ndarray
    log10_probability: np.ndarray
    log10_backoff: np.ndarray | None
    discounts: tuple[float, float, float]
    fell_back: bool
    pruned: int


@dataclass
class _Ngrams:
    """One order's n-grams before pruning; `parent` and `context` number n-grams of the order below."""

    words: np.ndarray  # uint32 [n-grams, order]
    occurrences: np.ndarray  # int64
    adjusted: np.ndarray  # int64: the counts that are smoothed
    parent: np.ndarray  # int64: the n-gram without its first word
    context: np.ndarray  # int64: the n-gram without its last word


def estimate(counts: Counts, thresholds: Sequence[int] = ()) -> list[Level]:
    """Probabilities and backoffs of all orders.

    Args:
      counts: of the highest order.
      thresholds: for pruning, one per order; the last one holds for all higher orders; () prunes nothing.

    Raises:
      UserError: no sentence, or thresholds that are negative, fall, or prune single words.
    """
    if not len(counts.rows):
        raise UserError("the text for the language model has no sentence; check the input and the normalisation")
    order = counts.rows.shape[1]
    limits = pruning_thresholds(thresholds, order)
    ngrams = _by_order(counts)
    kept = [item.occurrences > limit for item, limit in zip(ngrams, limits, strict=True)]
    kept[0][:] = True
    discounts = [find_discounts(item.adjusted) for item in ngrams]
    probabilities, backoffs = _interpolate(ngrams, kept, [values for values, _ in discounts])
    return [
        Level(
            item.words[keep],
            np.log10(np.maximum(probability[keep], _SMALLEST)),
            None if backoff is None else np.log10(np.maximum(backoff[keep], _SMALLEST)),
            values,
            fell_back,
            int(len(keep) - keep.sum()),
        )
        for item, keep, probability, backoff, (values, fell_back) in zip(
            ngrams, kept, probabilities, [*backoffs, None], discounts, strict=True
        )
    ]


def pruning_thresholds(thresholds: Sequence[int], order: int) -> list[int]:
    """One threshold per order, the last given one repeated.

    Example: pruning_thresholds([0, 1], 4) -> [0, 1, 1, 1].
    """
    given = list(thresholds) or [0]
    if len(given) > order or given[0] != 0 or any(low > high for low, high in itertools.pairwise(given)):
        raise UserError(
            f"pruning thresholds {given}: at most {order} numbers that start at 0 and never fall, such as 0 0 1"
        )
    return given + [given[-1]] * (order - len(given))


def find_discounts(adjusted: np.ndarray) -> tuple[tuple[float, float, float], bool]:
    """(D1, D2, D3+) of one order from its adjusted counts (the paper's equation 26), and whether they are the fallback.

    Example: four 1s, two 2s, one 3 and one 4 give Y = 4 / 8, D1 = 1 - 2 Y 2/4 = .5, D2 = 2 - 3 Y 1/2 = 1.25,
    D3+ = 3 - 4 Y 1/1 = 1.
    """
    seen = np.bincount(adjusted[(adjusted > 0) & (adjusted < 5)], minlength=5).astype(np.float64)
    if not seen[1:4].all():
        return FALLBACK, True
    y = seen[1] / (seen[1] + 2 * seen[2])
    found = tuple(float(k - (k + 1) * y * seen[k + 1] / seen[k]) for k in (1, 2, 3))
    if any(not 0 <= value <= k for k, value in enumerate(found, 1)):
        return FALLBACK, True
    return (found[0], found[1], found[2]), False


def _by_order(counts: Counts) -> list[_Ngrams]:
    """Groups the rows by their last k words for every k, with adjusted counts, parents and contexts."""
    rows, order = counts.rows, counts.rows.shape[1]
    starts, numbers = _groups(rows)
    result: list[_Ngrams] = []
    # Row -> number of the n-gram, of the order below the current one, that ends one word before the row's end.
    before = np.zeros(len(rows), np.uint64)
    keys: np.ndarray
    for k in range(1, order + 1):
        first = starts[k - 1]
        words = rows[first, order - k :]
        # A row filled up with several <s> is an n-gram of a lower order, and counted there.
        real = np.ones(len(first), bool) if k == 1 else (words[:, 0] != START) | (words[:, 1] != START)
        occurrences = np.add.reduceat(counts.counts, first)
        if k == order:
            adjusted = occurrences
        else:
            inner = np.zeros(len(rows), np.int64)
            inner[starts[k]] = 1
            adjusted = np.where(words[:, 0] == START, occurrences, np.add.reduceat(inner, first))
        if k == 1:
            result.append(_unigrams(words[:, 0], occurrences, adjusted, len(counts.words)))
            before = rows[:, -2].astype(np.uint64) if order > 1 else before
            number_of_group = words[:, 0].astype(np.int64)
        else:
            parent = number_of_group[numbers[k - 2][first]][real]
            context = before[first][real].astype(np.int64)
            result.append(_Ngrams(words[real], occurrences[real], adjusted[real], parent, context))
            keys = (parent.astype(np.uint64) << _WORD_BITS) | words[real, 0]
            if k < order:
                before = _extend(keys, before, rows[:, order - 1 - k])
            number_of_group = np.cumsum(real) - 1
    return result


def _groups(rows: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For k = 1, 2, ...: the first row of each group with the same last k words, and every row's group."""
    change = np.zeros(len(rows), bool)
    change[0] = True
    starts, numbers = [], []
    for column in range(rows.shape[1] - 1, -1, -1):
        change[1:] |= rows[1:, column] != rows[:-1, column]
        starts.append(np.flatnonzero(change))
        numbers.append(np.cumsum(change) - 1)
    return starts, numbers


def _unigrams(words: np.ndarray, occurrences: np.ndarray, adjusted: np.ndarray, vocabulary: int) -> _Ngrams:
    """All words by number; <unk> and <s> count nothing."""
    every = np.zeros((2, vocabulary), np.int64)
    every[0, words], every[1, words] = occurrences, adjusted
    none = np.zeros(vocabulary, np.int64)
    return _Ngrams(np.arange(vocabulary, dtype=np.uint32)[:, None], every[0], every[1], none, none)


def _extend(keys: np.ndarray, suffix: np.ndarray, word: np.ndarray) -> np.ndarray:
    """Numbers of the n-grams `word` + `suffix` among the sorted `keys`; _NOWHERE where there is none."""
    wanted = (suffix << _WORD_BITS) | word
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where((suffix != _NOWHERE) & (keys[place] == wanted), place.astype(np.uint64), _NOWHERE)


def _interpolate(
    ngrams: Sequence[_Ngrams], kept: Sequence[np.ndarray], discounts: Sequence[tuple[float, float, float]]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Probabilities of every order, and backoffs of every order but the highest."""
    probabilities: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []
    for k, (item, keep, values) in enumerate(zip(ngrams, kept, discounts, strict=True), 1):
        contexts = 1 if k == 1 else len(ngrams[k - 2].words)
        count = item.adjusted.astype(np.float64)
        discount = np.array([0.0, *values])[np.minimum(item.adjusted, 3)]
        total = np.bincount(item.context, count, contexts)
        freed = np.bincount(item.context, np.where(keep, discount, count), contexts)
        gamma = np.divide(freed, total, out=np.ones(contexts), where=total > 0)
        if k == 1:
            lower = np.full(len(count), 1.0 / (len(count) - 1))
        else:
            lower = probabilities[-1][item.parent]
            backoffs.append(gamma)
        probability = (count - discount) / total[item.context] + gamma[item.context] * lower
        if k == 1:
            probability[START] = 1.0  # never predicted; lmplz writes log10 = 0
        probabilities.append(probability)
    return probabilities, backoffs
