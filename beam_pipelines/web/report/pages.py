"""Samples of pages, kept and rejected, for a person to judge. Everything in them is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.web.report.signals import number
from t5x_style.report import markup
from t5x_style.report.markup import Markup


def rejected(stages: Sequence[Mapping[str, Any]], groups: Sequence[Mapping[str, Any]]) -> Markup:
    """Samples by stage and reason, in the order of the stages, the most frequent reason first."""
    if not groups:
        return markup.missing("No document was rejected.")
    counts = {stage["name"]: stage["rejected"] for stage in stages}
    order = {name: place for place, name in enumerate(counts)}
    parts = [
        markup.note(
            "Of each reason the pages that came closest to the threshold, then some drawn at random (smallest id, a "
            "hash). Is each of them one that you would throw away?"
        )
    ]
    for group in sorted(groups, key=lambda item: (order[item["stage"]], -counts[item["stage"]][item["reason"]])):
        count = counts[group["stage"]][group["reason"]]
        title = f"{group['stage']}: {group['reason']} ({count:,})"
        parts.append(_details(title, group["samples"]))
    return markup.join(parts)


def kept(samples: Sequence[Mapping[str, Any]]) -> Markup:
    """Samples of what stays."""
    if not samples:
        return markup.missing("No document was kept.")
    note = markup.note("Drawn at random. Is each of them one that you would train on?")
    return markup.join([note, _details(f"{len(samples)} kept pages", samples)])


def _details(title: str, samples: Sequence[Mapping[str, Any]]) -> Markup:
    return markup.element("details", markup.element("summary", title), *map(_sample, samples))


def _sample(sample: Mapping[str, Any]) -> Markup:
    about = [sample["url"] or sample["id"]]
    if sample["value"] is not None:
        limit = "" if sample["threshold"] is None else f", limit {number(sample['threshold'])}"
        about.append(f"value {number(sample['value'])}{limit}{' (near)' if sample['near'] else ''}")
    about += [text for text in (sample["language"], sample["note"]) if text]
    text, length = sample["text"], sample["characters"]
    if length > len(text):
        about.append(f"the first {len(text):,} of {length:,} characters")
    parts = [markup.element("div", " · ".join(about), class_="about")]
    if text:
        parts.append(markup.element("pre", text))
    return markup.element("div", *parts, class_="sample")
