"""The router of `auto`: two fast readings of a page, a guess at which is better, and a slow one where it is in doubt.

The fast readings fail on different pages: resiliparse's rules lose lists and short paragraphs, text without landmarks
keeps whatever the author did not mark up. How the two look predicts which has the higher word F1; where the prediction
is close to a tie, trafilatura reads the page too and the three texts vote.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from beam_pipelines.web.extraction.extractors import SHORT_TEXT

SHORT_LINE = 25  # characters: menu entries, buttons, labels


class Signals(NamedTuple):
    """What the router looks at, of `main` (resiliparse's main content) and `body` (text without landmarks).

    Attributes:
      share: main's part of the characters of both: near 0 main lost the content, near 1 body did.
      agreement: word overlap (Dice) of the two.
      short_main, short_body: share of lines under `SHORT_LINE` characters: lists and what is left of menus.
      line_main, line_body: log of the mean characters in a line: prose or fragments.
    """

    share: float
    agreement: float
    short_main: float
    short_body: float
    line_main: float
    line_body: float


# Word F1 of body minus that of main = INTERCEPT + COEFFICIENTS . signals: ridge regression on pages with hand-checked
# text, fitted and cross-validated by `python -m benchmarks.web_extraction_fit`, which prints these lines.
INTERCEPT = 0.3674
COEFFICIENTS = Signals(
    share=-0.7211, agreement=-0.3410, short_main=0.1846, short_body=-0.1983, line_main=-0.0596, line_body=0.1268
)


def words_of(text: str) -> Counter[str]:
    """Bag of what stands between spaces."""
    return Counter(text.split())


def overlap(first: Counter[str], second: Counter[str]) -> float:
    """Dice coefficient of two bags, 0 to 1; 0 if both are empty.

    Example: overlap(words_of("a b b"), words_of("b c")) -> 0.4 (2 * 1 / 5).
    """
    size = first.total() + second.total()
    return 2 * (first & second).total() / size if size else 0.0


def signals(main: str, body: str, agreement: float) -> Signals:
    """The signals of two readings; `agreement` is their word overlap."""
    short_main, line_main = _lines(main)
    short_body, line_body = _lines(body)
    share = len(main) / (len(main) + len(body)) if main or body else 0.5
    return Signals(share, agreement, short_main, short_body, line_main, line_body)


def _lines(text: str) -> tuple[float, float]:
    """Share of short lines, log of the mean length; blank lines do not count."""
    lengths = [len(stripped) for line in text.split("\n") if (stripped := line.strip())]
    if not lengths:
        return 0.0, 0.0
    return sum(length < SHORT_LINE for length in lengths) / len(lengths), math.log(1 + sum(lengths) / len(lengths))


def body_gain(found: Signals) -> float:
    """Expected word F1 of body minus that of main."""
    return INTERCEPT + sum(weight * value for weight, value in zip(COEFFICIENTS, found, strict=True))


class Choice(NamedTuple):
    """Of the two fast readings.

    Attributes:
      body: whether it is body, else main.
      doubtful: whether the slow extractor should read the page too.
    """

    body: bool
    doubtful: bool


def choose(main: str, body: str, agreement: float, doubt: float) -> Choice:
    """The reading that is expected to be better, and whether that is in doubt.

    It is if the expected gain is less than `doubt` times the share of words in which the two differ (readings that
    agree leave nothing to gain, whatever the guess), or if both are under `SHORT_TEXT` characters; never at `doubt` 0.
    """
    gain = body_gain(signals(main, body, agreement))
    nothing = max(len(main), len(body)) < SHORT_TEXT
    return Choice(gain > 0, doubt > 0 and (nothing or abs(gain) < doubt * (1 - agreement)))


def vote(main: str, body: str, slow: str) -> int:
    """Which of three texts (0, 1, 2) shares most words with the other two; 2 if the first two are hardly any text.

    Example: vote("a b x", "a b c", "a b c d") -> 1, if these had `SHORT_TEXT` characters.
    """
    if max(len(main), len(body)) < SHORT_TEXT:
        return 2
    bags = [words_of(text) for text in (main, body, slow)]
    first, second, third = overlap(bags[0], bags[1]), overlap(bags[0], bags[2]), overlap(bags[1], bags[2])
    scores = (first + second, first + third, second + third)
    return scores.index(max(scores))
