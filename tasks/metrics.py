"""Metric functions in seqio's form: (targets, predictions) or (targets, scores) -> {name: fraction from 0 to 1}."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rouge_score import rouge_scorer

ROUGE_TYPES = ("rouge1", "rouge2", "rougeLsum")
NAME = re.compile(r"[^\W\d]\w*")


def _check_lengths(targets: Sequence, outputs: Sequence) -> None:
    if len(targets) != len(outputs):
        raise ValueError(f"{len(targets)} targets but {len(outputs)} model outputs")
    if not targets:
        raise ValueError("no example to score: the split is empty")


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(np.asarray(values, np.float64)))


def accuracy(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Share of predictions equal to the target, outer white space aside: {"accuracy"}."""
    _check_lengths(targets, predictions)
    return {"accuracy": _mean([target.strip() == guess.strip() for target, guess in zip(targets, predictions)])}


def exact_match(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Equality after lower-casing and joining white space: {"exact_match"}."""
    _check_lengths(targets, predictions)
    return {
        "exact_match": _mean(
            [
                target.lower().split() == guess.lower().split()  # also equal where both are empty
                for target, guess in zip(targets, predictions)
            ]
        )
    }


@functools.cache
def _scorer() -> rouge_scorer.RougeScorer:
    return rouge_scorer.RougeScorer(ROUGE_TYPES, use_stemmer=True)


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Mean F-measures of ROUGE-1, -2 and -Lsum (Lin 2004), stemmed, by rouge-score; sentences are lines."""
    _check_lengths(targets, predictions)
    scores = [_scorer().score(target, guess) for target, guess in zip(targets, predictions)]
    return {name: _mean([score[name].fmeasure for score in scores]) for name in ROUGE_TYPES}


def names_in(text: str) -> frozenset[str]:
    """The identifiers of a list of names: `names_in("x, *args") == {"x", "args"}`."""
    return frozenset(NAME.findall(text))


def set_f1(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Agreement of two sets of names, order aside: {"set_f1": mean F1, "set_exact": share of equal sets}.

    Example:
      set_f1(["a, b"], ["b, c"]) == {"set_f1": 0.5, "set_exact": 0.0}
    """
    _check_lengths(targets, predictions)
    f1, exact = [], []
    for target, guess in zip(targets, predictions):
        wanted, found = names_in(target), names_in(guess)
        total = len(wanted) + len(found)
        f1.append(2 * len(wanted & found) / total if total else 1.0)
        exact.append(wanted == found)
    return {"set_f1": _mean(f1), "set_exact": _mean(exact)}


def rank_classification(
    targets: Sequence[tuple[tuple[int, int], bool, int]], scores: Sequence[float]
) -> dict[str, float]:
    """Accuracy when the option with the highest log-probability counts as the answer (T0's rank classification).

    Args:
      targets: for each (example, option) row: its index (example, option), whether the option is correct, and the
        number of target tokens that were scored (EOS included).
      scores: the summed log-probability of each row's target tokens.

    Returns:
      rank_accuracy: options ranked by the sum, as T0 does.
      rank_accuracy_per_token: options ranked by the mean per token, which does not favour short options.
      Options that tie for the first place share its credit, so a model that scores everything alike gets
      1 / options and not the share of whatever option stands first.

    Raises:
      ValueError: NaN scores, a row twice, or an example without exactly one correct option.

    Example:
      rank_classification([((0, 0), True, 1), ((0, 1), False, 4)], [-1.0, -2.0])
      == {"rank_accuracy": 1.0, "rank_accuracy_per_token": 0.0}
    """
    _check_lengths(targets, scores)
    rows: dict[int, dict[int, tuple[bool, float, float]]] = defaultdict(dict)
    for ((example, option), correct, length), score in zip(targets, np.asarray(scores, np.float64).reshape(-1)):
        if np.isnan(score):
            raise ValueError(f"the score of example {example}, option {option} is not a number")
        if option in rows[example]:
            raise ValueError(f"example {example} has option {option} twice")
        rows[example][option] = (bool(correct), float(score), float(score) / max(length, 1))
    by_sum, by_mean = [], []
    for example, options in rows.items():
        if sum(correct for correct, _, _ in options.values()) != 1:
            raise ValueError(f"example {example} needs exactly one correct option among its {len(options)}")
        by_sum.append(_credit([(correct, score) for correct, score, _ in options.values()]))
        by_mean.append(_credit([(correct, score) for correct, _, score in options.values()]))
    return {"rank_accuracy": _mean(by_sum), "rank_accuracy_per_token": _mean(by_mean)}


def _credit(options: Sequence[tuple[bool, float]]) -> float:
    best = max(score for _, score in options)
    first = [correct for correct, score in options if score == best]
    return sum(first) / len(first)
