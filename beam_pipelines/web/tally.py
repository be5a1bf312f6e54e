"""What one stage did in one unit: counts, edits, seconds, and histograms of its signals, all of which add up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from beam_pipelines.web.document import Measure, Verdict

T = TypeVar("T")
_FLUSH_VALUES = 20_000


class Tally:
    """Counts of one stage; `seconds` are a worker's wall time."""

    def __init__(self) -> None:
        self.taken = self.kept = 0
        self.seconds = 0.0
        self.rejected: Counter[str] = Counter()
        self.edits: Counter[str] = Counter()
        self._signals: dict[str, _Signal] = {}

    def count(self, verdict: Verdict, measures: Sequence[Measure] = (), edits: Mapping[str, int] | None = None) -> bool:
        """Adds one document; whether it stays."""
        self.taken += 1
        for measure in measures:
            signal = self._signals.get(measure.signal)
            if signal is None:
                signal = self._signals[measure.signal] = _Signal()
            signal.add(measure)
        if edits:
            self.edits.update(edits)
        if verdict.reason:
            self.rejected[verdict.reason] += 1
            return False
        self.kept += 1
        return True

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Passes `items` on and adds the time that making them took."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item

    def result(self) -> dict[str, Any]:
        """As JSON-like values."""
        return {
            "in": self.taken,
            "kept": self.kept,
            "rejected": dict(self.rejected),
            "edits": {kind: count for kind, count in self.edits.items() if count},
            "signals": {name: signal.result() for name, signal in self._signals.items()},
            "seconds": self.seconds,
        }


class _Signal:
    """Values of one signal, counted at two significant digits: at most a few hundred counters, whatever the range."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._counts: Counter[str] = Counter()
        self._limits: dict[tuple[float | None, float | None], None] = {}

    def add(self, measure: Measure) -> None:
        self._values.append(measure.value)
        limits = (measure.minimum, measure.maximum)
        if limits not in self._limits:
            self._limits[limits] = None
        if len(self._values) >= _FLUSH_VALUES:
            self._flush()

    def _flush(self) -> None:
        self._counts.update(rounded_counts(self._values))
        self._values.clear()

    def result(self) -> dict[str, Any]:
        self._flush()
        return {"counts": dict(self._counts), "limits": [list(pair) for pair in self._limits]}


def rounded_counts(values: Sequence[float]) -> dict[str, int]:
    """How often each value occurs at two significant digits, keyed as text, for JSON.

    Example: [0.123, 0.118, 1234, 0] -> {"0": 1, "0.12": 2, "1200": 1}.
    """
    array = np.asarray(values, np.float64)
    magnitude = np.zeros(len(array))
    finite = np.isfinite(array) & (array != 0)
    magnitude[finite] = np.floor(np.log10(np.abs(array[finite])))
    scale = 10.0 ** (magnitude - 1)
    rounded = np.where(finite, np.round(array / scale) * scale, array)
    counts: Counter[str] = Counter()
    for value, count in zip(*np.unique(rounded, return_counts=True), strict=True):
        counts[f"{float(f'{value:.2g}'):g}"] += int(count)
    return dict(counts)


def add_signals(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds one unit's `signals` (see `Tally.result`) to `total`."""
    for name, signal in part.items():
        into = total.setdefault(name, {"counts": {}, "limits": []})
        for value, count in signal["counts"].items():
            into["counts"][value] = into["counts"].get(value, 0) + count
        into["limits"] += [pair for pair in signal["limits"] if pair not in into["limits"]]
