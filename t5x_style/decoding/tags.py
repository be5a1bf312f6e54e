"""From scores of tags to spans: the best sequence of tags that is valid in its scheme.

IOBES: a span of one token is S-X; a longer one B-X, I-X ..., E-X; O is outside. IOB2: B-X, then I-X for the rest.
The best valid sequence is found exactly (Viterbi 1967), instead of repairing the best tag of each token. Tags have no
scores for following each other, only rules, so logits serve as well as log-probabilities: they differ by a number a
token that all sequences share.

Example: two tokens with the scores

          O   B-PER  I-PER  E-PER  S-PER
    0     1     2      0      0      1
    1     3     0      0      2      1

have the best single tags B-PER O, which is no sequence (a B needs an E). Of the valid ones B-PER E-PER has 2 + 2, and
O O has 1 + 3, S-PER O 1 + 3, O S-PER 1 + 1: the first of the best is taken, in the order of the labels: O O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np

from t5x_style.errors import UserError

Scheme = Literal["iobes", "iob2"]
_PREFIXES: dict[str, str] = {"iobes": "BIES", "iob2": "BI"}
_NEVER = -np.inf


@dataclasses.dataclass(frozen=True)
class Span:
    """Tokens start, start + 1, ..., end - 1 are of `kind`."""

    start: int
    end: int
    kind: str


@dataclasses.dataclass(frozen=True, eq=False)
class Rules:
    """Which tags may begin a sequence [T], follow another [T, T] (from, to), and end one [T]."""

    begin: np.ndarray
    follow: np.ndarray
    end: np.ndarray


def rules(labels: Sequence[str], scheme: Scheme = "iobes") -> Rules:
    """What a scheme allows.

    Args:
      labels: in the order of their ids, such as "O", "B-PER", "I-PER", "E-PER", "S-PER".

    Example, IOBES with the labels above: begin O, B, S; end O, E, S; O, E, S before O, B, S;
      B, I before I, E.

    Raises:
      UserError: a label that is not of the scheme, or no O.
    """
    parts = [_parts(label, labels, scheme) for label in labels]
    if "O" not in labels:
        raise UserError(f"tags: the labels {', '.join(labels)} have no O, the tag outside of spans")
    begin = np.array([prefix in "OBS" for prefix, _ in parts])
    end = np.array([prefix in ("OES" if scheme == "iobes" else "OBI") for prefix, _ in parts])
    follow = np.zeros((len(parts), len(parts)), bool)
    for row, (prefix, kind) in enumerate(parts):
        for column, (after, other) in enumerate(parts):
            inside = prefix in "BI" and after in "IE" and kind == other
            follow[row, column] = inside or (bool(end[row]) and bool(begin[column]))
    return Rules(begin, follow, end)


def best_tags(scores: np.ndarray, allowed: Rules) -> np.ndarray:
    """The valid sequence [L] of tag ids with the largest sum of scores [L, T]; of equals the first in the ids' order.

    Args:
      scores: logits or log-probabilities of the real tokens of one sequence, without padding and special tokens.

    Raises:
      UserError: scores are no numbers, or no sequence is valid.
    """
    values = np.asarray(scores, np.float64)
    if values.ndim != 2 or values.shape[1] != len(allowed.begin):
        raise UserError(f"tags: scores have shape {values.shape}; give [tokens, {len(allowed.begin)} labels]")
    if np.isnan(values).any():
        raise UserError("tags: scores hold NaN; the model's weights or inputs are broken")
    length = len(values)
    if length == 0:
        return np.zeros(0, np.int64)
    steps = np.where(allowed.follow, 0.0, _NEVER)
    # rest[t, k]: the best sum of the tokens behind t where token t has tag k; going backwards lets the forward walk
    # take the first of equals
    rest = np.where(allowed.end, 0.0, _NEVER)[None].repeat(length, axis=0)
    for place in range(length - 2, -1, -1):
        rest[place] = np.max(steps + values[place + 1] + rest[place + 1], axis=1)
    totals = np.where(allowed.begin, values[0] + rest[0], _NEVER)
    if totals.max() == _NEVER:
        raise UserError(f"tags: no sequence of {length} tags is valid with these labels; B needs an E or an I")
    tags = [int(totals.argmax())]
    for place in range(1, length):
        tags.append(int((steps[tags[-1]] + values[place] + rest[place]).argmax()))
    return np.array(tags)


def spans(tags: Sequence[int], labels: Sequence[str], scheme: Scheme = "iobes") -> list[Span]:
    """The spans of a valid sequence of tag ids.

    Example, IOBES: B-PER E-PER O S-LOC -> [Span(0, 2, "PER"), Span(3, 4, "LOC")].

    Raises:
      UserError: the sequence is not valid.
    """
    allowed = rules(labels, scheme)
    for place, tag in enumerate(tags):
        fits = allowed.begin[tag] if place == 0 else allowed.follow[tags[place - 1], tag]
        if not fits or (place == len(tags) - 1 and not allowed.end[tag]):
            raise UserError(f"tags: {labels[tag]} at token {place} is not valid there; take the tags of best_tags")
    found: list[Span] = []
    for place, tag in enumerate(tags):
        prefix, kind = _parts(labels[tag], labels, scheme)
        if prefix in "BS":
            found.append(Span(place, place + 1, kind))
        elif prefix in "IE":
            found[-1] = Span(found[-1].start, place + 1, kind)
    return found


def best_spans(scores: np.ndarray, labels: Sequence[str], scheme: Scheme = "iobes") -> list[Span]:
    """The spans of the best valid sequence for scores [L, T] of one sequence; see `best_tags`."""
    return spans(best_tags(scores, rules(labels, scheme)).tolist(), labels, scheme)


def _parts(label: str, labels: Sequence[str], scheme: Scheme) -> tuple[str, str]:
    """Prefix and kind. Example: "B-PER" -> ("B", "PER"), "O" -> ("O", "")."""
    if label == "O":
        return "O", ""
    prefix, dash, kind = label.partition("-")
    if scheme not in _PREFIXES or len(prefix) != 1 or prefix not in _PREFIXES[scheme] or not dash or not kind:
        wanted = ", ".join(f"{letter}-NAME" for letter in _PREFIXES.get(scheme, ""))
        raise UserError(f"tags: label {label!r} of {', '.join(labels)} is none of the scheme {scheme!r}: O, {wanted}")
    return prefix, kind
