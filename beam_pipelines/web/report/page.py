"""The page: head, style, key figures, then the sections in the order in which they are asked for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

from beam_pipelines.web.report import pages, run_facts, signals, stages
from t5x_style.report import markup
from t5x_style.report.markup import Markup

# No script runs and nothing is fetched, whatever a crawled page holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #59636e; --line: #d9dfe5; --back: #fff; --raised: #f4f7f9;
  --kept: #0072b2; --lost: #e69f00; --limit: #c1440e; --link: #00568a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --soft: #9aa5b0; --line: #333c45; --back: #14181c;
  --raised: #1d2329; --kept: #56a9dc; --lost: #e8a93b; --limit: #ff8a5c; --link: #7cc0ea; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header > div { max-width: 1080px; margin: 0 auto; padding: 0 16px; }
header { background: var(--raised); border-bottom: 1px solid var(--line); padding: 20px 0; }
h1 { font-size: 25px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 36px 0 8px; padding-top: 6px; border-top: 2px solid var(--kept); }
h3 { font-size: 15px; margin: 20px 0 4px; }
header p { margin: 0; color: var(--soft); }
nav { margin-top: 8px; font-size: 14px; }
nav a { color: var(--link); margin-right: 14px; display: inline-block; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 10px; margin-top: 16px; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px; background: var(--back); }
.card .value { font-size: 23px; font-weight: 650; color: var(--kept); line-height: 1.25; }
.card .label { font-weight: 600; font-size: 13.5px; }
.card .detail, .note, figcaption, .about { color: var(--soft); font-size: 13px; }
.scroll { overflow-x: auto; }
.narrow { max-width: 560px; }
table { border-collapse: collapse; font-size: 13.5px; margin: 6px 0; width: 100%; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; text-align: left; }
th { border-bottom: 1.5px solid var(--soft); }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bar { display: flex; height: 14px; margin-top: 4px; width: 34vw; min-width: 110px; max-width: 300px; }
.bar i { display: block; height: 100%; background: var(--kept); }
.bar i + i { background: var(--lost); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)); gap: 8px 18px; }
figure { margin: 0; min-width: 0; }
figcaption b { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 10px; fill: var(--soft); }
svg .kept { fill: var(--kept); }
svg .lost { fill: var(--lost); }
svg .axis { stroke: var(--soft); }
svg .limit { stroke: var(--limit); stroke-dasharray: 3 2; }
svg text.limit { fill: var(--limit); stroke: none; }
details { border: 1px solid var(--line); border-radius: 8px; margin: 8px 0; padding: 0 12px; }
summary { cursor: pointer; padding: 8px 0; font-weight: 600; }
.sample { border-top: 1px solid var(--line); padding: 8px 0 10px; }
.about { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0 0; max-height: 320px; overflow-y: auto;
  font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; background: var(--raised); border-radius: 6px;
  padding: 8px; }
.missing { background: var(--raised); border-left: 4px solid var(--soft); padding: 8px 12px; }
footer { color: var(--soft); font-size: 13px; margin: 36px 0 28px; }
"""


def build(name: str, stats: Mapping[str, Any], run: Mapping[str, Any], samples: Mapping[str, Any]) -> str:
    """The whole page as HTML; the same arguments give the same page but for the time in its last line."""
    sections = [
        ("funnel", "Funnel", stages.funnel(stats["stages"], run["configuration"])),
        ("reasons", "Why documents went", stages.reasons(stats["stages"])),
        ("edits", "What was changed in texts", stages.edits(stats["stages"])),
        ("signals", "Signals and thresholds", signals.section(stats["stages"])),
        ("rejected", "Rejected pages", pages.rejected(stats["stages"], samples["rejected"])),
        ("kept", "Kept pages", pages.kept(samples["kept"])),
        ("speed", "Time", stages.speed(stats["stages"])),
        ("run", "Configuration and inputs", run_facts.section(stats, run)),
    ]
    title = f"Web data: {name}"
    links = [markup.element("a", heading, href=f"#{anchor}") for anchor, heading, _ in sections]
    head = markup.element(
        "header",
        markup.element(
            "div",
            markup.element("h1", title),
            markup.element("nav", *links),
            markup.element("div", *_cards(stats), class_="cards"),
        ),
    )
    body = [
        markup.element("section", markup.element("h2", heading, id=anchor), content)
        for anchor, heading, content in sections
    ]
    shown = markup.join([head, *body])
    digest = hashlib.blake2b((STYLE + shown).encode("utf-8"), digest_size=16).hexdigest()
    made = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime())
    foot = markup.element("footer", f"Made {made} from the files of this run.")
    meta = (
        f'<meta charset="utf-8"><meta name="digest" content="{digest}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    )
    start = f'<!doctype html>\n<html lang="en"><head>{meta}<title>{markup.escape(title)}</title>'
    page = markup.element("body", head, markup.element("main", *body, foot))
    return f"{start}<style>{STYLE}</style></head>\n{page}</html>\n"


def _cards(stats: Mapping[str, Any]) -> list[Markup]:
    """The key figures."""
    came, kept, characters = stats["stages"][0]["in"], stats["documents"], stats["characters"]
    seconds = sum(stage["seconds"] for stage in stats["stages"])
    inputs = stats["inputs"]
    size = sum(item["bytes"] for item in inputs)
    return [
        markup.card(markup.short(kept), "documents kept", f"{markup.percent(stages.share(kept, came))} of {came:,}"),
        markup.card(
            markup.short(characters), "characters", f"{markup.count(stages.share(characters, kept) or 0)} a document"
        ),
        markup.card(markup.short(len(inputs)), "input files", f"{size / 1e6:,.1f} MB"),
        markup.card(
            markup.duration(seconds), "of one core", f"{stages.share(came, seconds) or 0:,.1f} pages a second and core"
        ),
    ]
