"""Runs both sides of a benchmark alternately and formats its last line."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple


class Comparison(NamedTuple):
    """Medians of both sides, in `unit`, over `runs` alternate runs."""

    ours: float
    peer: float
    runs: int


def compare(ours: Callable[[], float], peer: Callable[[], float], runs: int = 5) -> Comparison:
    """Runs `ours` and `peer` in turn, `runs` times each, so that a change of the machine's load meets both.

    Args:
      ours, peer: do the work once and return the measured value (a rate, seconds, bytes).
      runs: of each side; the medians count.
    """
    values = [(ours(), peer()) for _ in range(runs)]
    return Comparison(statistics.median(v[0] for v in values), statistics.median(v[1] for v in values), runs)


def ratio_line(what: str, unit: str, result: Comparison, higher_is_better: bool = True) -> str:
    """The last line of a benchmark; a ratio above 1 is in our favour.

    >>> ratio_line("packing", "tokens/s", Comparison(300.0, 200.0, 3))
    'ratio: 1.50x (packing; ours 300 tokens/s; peer 200 tokens/s; median of 3)'
    >>> ratio_line("startup", "s", Comparison(0.5, 0.25, 3), higher_is_better=False)
    'ratio: 0.50x (startup; ours 0.5 s; peer 0.25 s; median of 3)'
    """
    ratio = result.ours / result.peer if higher_is_better else result.peer / result.ours
    ours, peer = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in (result.ours, result.peer))
    return f"ratio: {ratio:.2f}x ({what}; ours {ours} {unit}; peer {peer} {unit}; median of {result.runs})"
