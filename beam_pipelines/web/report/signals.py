"""Histograms of every signal with the limits it was held to, as small inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from t5x_style.report import markup
from t5x_style.report.markup import Markup

BINS = 48
WIDTH, HEIGHT, BASE, TOP = 320, 118, 98, 14  # of the drawing; bars stand on BASE and end below TOP
LOG_RANGE = 50  # a signal whose values span more than this ratio is drawn over a logarithmic axis
MOST_LIMITS = 6  # lines: parameters per language can have more

Limits = Sequence[Sequence[float | None]]


class Axis(NamedTuple):
    """Maps values to 0..1.

    Attributes:
      low, high: the range (of the positive values where logarithmic).
      logarithmic: whether the axis is.
      zero: whether zeros have the first bin for themselves.
    """

    low: float
    high: float
    logarithmic: bool
    zero: bool

    def place(self, value: float) -> float:
        """Where a value lies, 0 (left) to 1."""
        if self.zero and value <= 0:
            return 0.0
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        inside = ((math.log(value) if self.logarithmic else value) - low) / (high - low) if high > low else 0.5
        first = 1.5 / BINS if self.zero else 0.0
        return min(max(first + inside * (1 - first), first), 1.0)


def section(stages: Sequence[Mapping[str, Any]]) -> Markup:
    """All signals, stage by stage."""
    parts: list[Markup] = []
    for stage in stages:
        plots = [histogram(name, signal) for name, signal in stage["signals"].items()]
        if plots:
            parts += [markup.element("h3", stage["name"]), markup.element("div", *plots, class_="plots")]
    if not parts:
        return markup.missing("No stage of this recipe measures a signal.")
    note = (
        "How many documents had which value; heights are logarithmic. A stage measures up to the first rule that a "
        "document breaks, so later signals have fewer. Dashed: limits; the other colour: outside them."
    )
    return markup.join([markup.note(note), *parts])


def histogram(name: str, signal: Mapping[str, Any]) -> Markup:
    """One signal: {"counts": {value: count}, "limits": [[minimum, maximum]]}, as in stats.json."""
    counts = sorted((float(value), count) for value, count in signal["counts"].items())
    finite = [(value, count) for value, count in counts if math.isfinite(value)]
    total = sum(count for _, count in counts)
    limits = [pair for pair in signal["limits"] if any(limit is not None for limit in pair)]
    single = limits[0] if len(limits) == 1 else None
    outside = sum(count for value, count in counts if single is not None and _breaks(value, single))
    words = f"{total:,} documents"
    if single is not None:
        words += f", {markup.percent(outside / total if total else None)} outside"
    if len(limits) > 1:
        words += f", {len(limits)} different limits"
    if len(finite) < len(counts):
        words += f", {total - sum(count for _, count in finite):,} without a finite value"
    caption = markup.element("figcaption", markup.element("b", name), f" {words}")
    if not finite:
        return markup.element("figure", caption)
    lines = sorted({limit for pair in limits for limit in pair if limit is not None and math.isfinite(limit)})
    lines = lines[:MOST_LIMITS]
    axis = make_axis([value for value, _ in finite], lines)
    drawing = [_bars(finite, axis, single), _frame(axis), *(_limit(line, axis) for line in lines)]
    label = f"{name}: {words}"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{markup.escape(label)}">{"".join(drawing)}</svg>'
    return markup.element("figure", caption, Markup(svg))


def _breaks(value: float, limits: Sequence[float | None]) -> bool:
    minimum, maximum = limits
    return (minimum is not None and value < minimum) or (maximum is not None and value > maximum)


def make_axis(values: Sequence[float], limits: Sequence[float]) -> Axis:
    """The axis that shows all values and limits.

    Example: 0..100 and all shares (nothing above 1) -> linear; 3..20000 -> logarithmic; 0 and 3..20000 -> logarithmic
    with a bin for 0.
    """
    every = [*values, *limits]
    low, high = min(every), max(every)
    positive = [value for value in every if value > 0]
    if low >= 0 and high > 1 and max(positive) / min(positive) > LOG_RANGE:
        return Axis(min(positive), high, True, low == 0)
    return Axis(low, high, False, False)


def _bars(counts: Sequence[tuple[float, int]], axis: Axis, limits: Sequence[float | None] | None) -> str:
    """Two paths of bars: inside the limits, and on top of them outside."""
    inside, outside = [0] * BINS, [0] * BINS
    for value, count in counts:
        bins = outside if limits is not None and _breaks(value, limits) else inside
        bins[min(int(axis.place(value) * BINS), BINS - 1)] += count
    most = max(a + b for a, b in zip(inside, outside, strict=True))
    scale = (BASE - TOP) / math.log1p(most)
    width = WIDTH / BINS
    kept: list[str] = []
    lost: list[str] = []
    for index, (a, b) in enumerate(zip(inside, outside, strict=True)):
        whole = math.log1p(a + b) * scale
        part = whole * a / (a + b) if a + b else 0.0
        for path, bottom, height in ((kept, BASE, part), (lost, BASE - part, whole - part)):
            if height > 0:
                path.append(f"M{index * width:.1f} {bottom:.1f}v{-height:.1f}h{width - 0.8:.1f}v{height:.1f}z")
    return f'<path class="kept" d="{"".join(kept)}"/><path class="lost" d="{"".join(lost)}"/>'


def _frame(axis: Axis) -> str:
    """The base line and three numbers below it."""
    middle = math.sqrt(axis.low * axis.high) if axis.logarithmic else (axis.low + axis.high) / 2
    left = "0" if axis.zero else number(axis.low)
    texts = [
        (0, "start", left),
        (axis.place(middle) * WIDTH, "middle", number(middle)),
        (WIDTH, "end", number(axis.high)),
    ]
    if axis.high <= axis.low:
        texts = [(WIDTH / 2, "middle", number(axis.low))]
    labels = "".join(
        f'<text x="{x:.0f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{text}</text>' for x, anchor, text in texts
    )
    return f'<line class="axis" x1="0" x2="{WIDTH}" y1="{BASE}" y2="{BASE}"/>{labels}'


def _limit(value: float, axis: Axis) -> str:
    x = axis.place(value) * WIDTH
    anchor = "end" if x > WIDTH / 2 else "start"
    return (
        f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{BASE}"/>'
        f'<text class="limit" x="{x:.1f}" y="{TOP - 5}" text-anchor="{anchor}">{number(value)}</text>'
    )


def number(value: float) -> str:
    """Three digits: number(0.12345) == "0.123", number(123456) == "123,456"."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"
