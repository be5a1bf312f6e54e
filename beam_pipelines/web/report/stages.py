"""What every stage took, kept, rejected, changed, and how long it needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_style.report import markup
from t5x_style.report.markup import Cell, Markup

# Share of its input, in percent, that each stage of RefinedWeb removed, by the module of our equal stage. Second-hand:
# quoted from the funnel of Penedo et al. 2023, the whole keeping 11.67 %.
REFINEDWEB = {
    "url_filter": 2.24,
    "extract": 1.49,
    "language": 50.66,
    "gopher_repetition": 24.28,
    "gopher_quality": 16.19,
    "line_wise": 22.59,
    "minhash": 37.88,
    "exact_substring": 18.47,
}
REFINEDWEB_KEPT = 11.67

Stages = Sequence[Mapping[str, Any]]


def share(part: float, whole: float) -> float | None:
    """part / whole, None where there is no whole."""
    return part / whole if whole else None


def lost(stage: Mapping[str, Any]) -> int:
    """Documents that a stage rejected."""
    return sum(stage["rejected"].values())


def funnel(stages: Stages, configuration: Sequence[Mapping[str, Any]]) -> Markup:
    """A row per stage: bar, counts, shares, RefinedWeb's share where it has an equal stage."""
    came = stages[0]["in"]
    published = refinedweb_shares(configuration)
    rows = []
    for stage, percent in zip(stages, published, strict=True):
        counts = [markup.count(stage[key]) for key in ("in", "kept")]
        removed = markup.percent(share(lost(stage), stage["in"]))
        left = markup.percent(share(stage["kept"], came))
        bar = _bar(stage["kept"], lost(stage), came)
        theirs = "" if percent is None else f"{percent:.2f} %"
        rows.append([stage["name"], bar, *counts, markup.count(lost(stage)), removed, left, theirs])
    total = [came, stages[-1]["kept"], sum(map(lost, stages))]
    end = [*map(markup.count, total), markup.percent(share(total[2], came)), markup.percent(share(total[1], came))]
    rows.append([Cell("all", True), "", *(Cell(value, True) for value in end), ""])
    header = ["stage", "kept and rejected", "in", "kept", "rejected", "removed", "left of all", "RefinedWeb removed"]
    parts = [markup.table(header, rows, text_columns=2)]
    if any(value is not None for value in published):
        parts.append(
            markup.note(
                "The last column is what RefinedWeb's equal stage removed of its input, quoted second-hand; "
                f"{REFINEDWEB_KEPT} % were kept in all. Other crawl, order and parameters: for orientation."
            )
        )
    return markup.join(parts)


def refinedweb_shares(configuration: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """RefinedWeb's percentage for each stage of a recipe, each used once.

    Example: a recipe of Extract, Language, Language -> [1.49, 50.66, None].
    """
    left = dict(REFINEDWEB)
    found: list[float | None] = []
    for stage in configuration:
        modules = [name.split(".")[-2] for name in _classes(stage)]
        found.append(next((left.pop(module) for module in modules if module in left), None))
    return found


def _classes(value: Any) -> Iterator[str]:
    """The classes in a stage's configuration: its own, then those of stages that it holds."""
    if isinstance(value, Mapping):
        if isinstance(value.get("class"), str):
            yield value["class"]
        for item in value.values():
            yield from _classes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _classes(item)


def _bar(kept: int, rejected: int, whole: int) -> Markup:
    pieces = [
        markup.element("i", style=f"width:{100 * (share(count, whole) or 0):.3f}%", title=f"{name} {count:,}")
        for name, count in (("kept", kept), ("rejected", rejected))
    ]
    return markup.element("div", *pieces, class_="bar")


def reasons(stages: Stages) -> Markup:
    """Stage, reason, count, shares; the most frequent reason of each stage first."""
    came = stages[0]["in"]
    rows = [
        [
            stage["name"],
            reason,
            markup.count(count),
            markup.percent(share(count, stage["in"])),
            markup.percent(share(count, came)),
        ]
        for stage in stages
        for reason, count in sorted(stage["rejected"].items(), key=lambda item: (-item[1], item[0]))
    ]
    if not rows:
        return markup.missing("No document was rejected.")
    return markup.table(["stage", "reason", "documents", "of the stage", "of all"], rows, text_columns=2)


def edits(stages: Stages) -> Markup:
    """Stage, kind of change, count."""
    rows = [
        [stage["name"], kind.replace("_", " "), markup.count(count), f"{count / stage['in']:,.3g}"]
        for stage in stages
        for kind, count in stage["edits"].items()
        if stage["in"]
    ]
    if not rows:
        return markup.missing("No stage of this recipe changed a text.")
    return markup.table(["stage", "change", "times", "per document"], rows, text_columns=2)


def speed(stages: Stages) -> Markup:
    """Documents per second and core, and where the time went."""
    whole = sum(stage["seconds"] for stage in stages)
    rows = []
    for stage in stages:
        seconds = stage["seconds"]
        rate = share(stage["in"], seconds)
        part = [markup.duration(seconds), markup.percent(share(seconds, whole))]
        rate_text = "–" if rate is None else f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        rows.append([stage["name"], _bar(round(1000 * seconds), 0, round(1000 * whole)), *part, rate_text])
    note = (
        "Seconds of all workers together, each stage's own; a deduplication's hold its keys and its jobs. "
        "Rates are documents that came in per second of one core."
    )
    header = ["stage", "share", "time", "of all", "documents/s/core"]
    return markup.join([markup.table(header, rows, text_columns=2), markup.note(note)])
