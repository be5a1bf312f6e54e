"""The curation funnel: what every stage kept, what it rejected and why, and whether the numbers add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from t5x_style.report import figures, markup
from t5x_style.report.markup import Markup
from t5x_style.report.sources import Sources

REASONS_SHOWN = 14  # bars that fit without small print; the table has them all


def problems(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What does not add up: in == kept + rejected at every stage, and a stage gets what the one before kept.

    Example:
      problems([{"name": "a", "in": 3, "kept": 1, "rejected": {"short": 1}}])
      == ["a: 3 in, but 1 kept + 1 rejected = 2"]
    """
    found = []
    for index, stage in enumerate(stages):
        rejected = sum(stage["rejected"].values())
        if stage["in"] != stage["kept"] + rejected:
            found.append(
                f"{stage['name']}: {stage['in']} in, but {stage['kept']} kept + {rejected} rejected = "
                f"{stage['kept'] + rejected}"
            )
        if index and stage["in"] != stages[index - 1]["kept"]:
            before = stages[index - 1]
            found.append(f"{stage['name']}: {stage['in']} in, but {before['name']} kept {before['kept']}")
    return found


def section(sources: Sources) -> Markup:
    """Funnel plot, verdict, table."""
    stats = sources.json("web/stats.json")
    if not stats or not stats.get("stages"):
        return markup.missing("web/stats.json is not there: the pages were not cleaned here.")
    stages = stats["stages"]
    wrong = problems(stages)
    verdict: Markup = markup.join(markup.problem(f"Does not add up. {text}") for text in wrong)
    if not wrong:
        first, last = stages[0]["in"], stages[-1]["kept"]
        rejected = sum(sum(stage["rejected"].values()) for stage in stages)
        text = f"The funnel adds up: {first:,} in = {last:,} kept + {rejected:,} rejected, and so does every stage."
        verdict = markup.element("p", text, class_="good")
    crawl = sources.json("crawl/crawl.json")
    return markup.join([_plot(stages), verdict, _table(stages), _records(stats.get("records")), _crawl(crawl)])


def _plot(stages: Sequence[Mapping[str, Any]]) -> Markup:
    reasons = [(stage["name"], reason, count) for stage in stages for reason, count in stage["rejected"].items()]
    reasons = sorted((row for row in reasons if row[2]), key=lambda row: -row[2])
    shown = reasons[:REASONS_SHOWN]
    height = 1.1 + 0.3 * max(len(stages), len(shown), 3)
    with figures.figure(1, 2, height, gridspec_kw={"width_ratios": [1, 1.15]}) as (made, (left, right)):
        names = [figures.plain_text(stage["name"], 24) for stage in stages]
        kept = [stage["kept"] for stage in stages]
        rejected = [sum(stage["rejected"].values()) for stage in stages]
        places = range(len(stages))
        left.barh(places, kept, color=figures.BLUE, label="kept")
        left.barh(places, rejected, left=kept, color=figures.ORANGE, label="rejected")
        for place, (stays, goes) in enumerate(zip(kept, rejected)):
            label = f" {stays:,}" + (f"  (−{goes:,})" if goes else "")
            left.text(stays + goes, place, label, va="center", fontsize=9)
        left.set(yticks=list(places), yticklabels=names, title="Documents after each stage")
        left.set_xlim(0, max([stage["in"] for stage in stages] + [1]) * 1.32)
        left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / height), ncols=2)
        right.barh(range(len(shown)), [count for _, _, count in shown], color=figures.ORANGE)
        for place, (_, _, count) in enumerate(shown):
            right.text(count, place, f" {count:,}", va="center", fontsize=9)
        labels = [figures.plain_text(f"{stage}: {reason}", 38) for stage, reason, _ in shown]
        more = f"the {len(shown)} most frequent of {len(reasons)}"
        right.set(yticks=list(range(len(shown))), yticklabels=labels, title="Reasons for rejection")
        right.set_xlabel(more if len(reasons) > len(shown) else "documents")
        left.set_xlabel("documents")
        right.set_xlim(0, max([count for _, _, count in shown], default=1) * 1.18)
        for axis in (left, right):
            axis.invert_yaxis()
            axis.grid(axis="y", visible=False)
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.locator_params(axis="x", nbins=4)
        return figures.image(made, "Documents kept and rejected by each stage, and the reasons for rejection")


def _table(stages: Sequence[Mapping[str, Any]]) -> Markup:
    rows = []
    for stage in stages:
        share = stage["kept"] / stage["in"] if stage["in"] else None
        reasons = sorted(stage["rejected"].items(), key=lambda item: -item[1])
        words = ", ".join(f"{reason} {count:,}" for reason, count in reasons if count) or "–"
        seconds = markup.duration(stage["seconds"]) if stage.get("seconds") is not None else "–"
        counts = [markup.count(stage["in"]), markup.count(stage["kept"]), markup.percent(share)]
        rows.append([stage["name"], words, *counts, seconds])
    return markup.table(["stage", "rejected by reason", "in", "kept", "kept share", "time"], rows, text_columns=2)


def _records(records: Any) -> Markup:
    if not isinstance(records, Mapping):
        return Markup("")
    parts = [f"{name} {value:,}" for name, value in records.items() if isinstance(value, int)]
    return markup.note("Records read: ", ", ".join(parts), ".") if parts else Markup("")


def _crawl(crawl: Any) -> Markup:
    """What was recorded, from crawl.json; nothing for other input than the documentation crawl."""
    if not isinstance(crawl, Mapping) or "total_pages" not in crawl:
        return Markup("")
    kinds = ", ".join(f"{name} {count:,}" for name, count in crawl.get("pages", {}).items())
    skipped = ", ".join(f"{reason} {count:,}" for reason, count in crawl.get("dropped", {}).items() if count)
    packages = sum(1 for package in crawl.get("packages", {}).values() if package.get("pages"))
    text = f"Crawl: {crawl['total_pages']:,} pages of {packages:,} packages ({kinds})."
    return markup.note(text, f" Skipped: {skipped}." if skipped else "")
