"""From start and end scores of tokens to answers: the best spans of the context (Devlin et al. 2019, section 4.2)."""

from __future__ import annotations

import dataclasses

import numpy as np

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Answer:
    """Tokens start, ..., end (inclusive) with start score + end score."""

    start: int
    end: int
    score: float


def best_answers(logits: np.ndarray, allowed: np.ndarray, max_tokens: int = 30, count: int = 1) -> list[Answer]:
    """The answers with the largest sums, best first; of equals the one that starts first, then the shorter one.

    Args:
      logits: [L, 2] of one sequence, as a head of kind "span" gives them.
      allowed: [L] bool: tokens of the context; question, special tokens and padding are no answers.
      max_tokens: of an answer. count: how many answers; fewer come back where there are fewer.

    Example: start [1, 5, 0, 2], end [0, 1, 4, 9], all allowed, max_tokens 2. Token 3 alone has 2 + 9, tokens 1 to 2
    have 5 + 4, tokens 2 to 3 have 0 + 9; tokens 1 to 3 with 5 + 9 are too long:
    Answer(3, 3, 11.0), Answer(1, 2, 9.0), Answer(2, 3, 9.0).

    Raises:
      UserError: shapes that do not fit, or max_tokens or count below 1.
    """
    values, open_ = np.asarray(logits, np.float64), np.asarray(allowed, bool)
    if values.ndim != 2 or values.shape[1] != 2 or open_.shape != values.shape[:1]:
        raise UserError(f"answers: logits {values.shape} and allowed {open_.shape} must be [tokens, 2] and [tokens]")
    if max_tokens < 1 or count < 1:
        raise UserError(f"answers: max_tokens is {max_tokens} and count {count}; give 1 or more")
    places = np.arange(len(values))
    length = places[None, :] - places[:, None] + 1
    fits = (length >= 1) & (length <= max_tokens) & open_[:, None] & open_[None, :]
    # an answer does not run through what is no context: the number of closed tokens before both ends is equal
    closed = np.cumsum(~open_)
    fits &= closed[:, None] == closed[None, :]
    starts, ends = np.nonzero(fits)  # in the order of starts, then of ends
    scores = values[starts, 0] + values[ends, 1]
    order = np.argsort(-scores, kind="stable")[:count]
    return [Answer(int(starts[k]), int(ends[k]), float(scores[k])) for k in order]
