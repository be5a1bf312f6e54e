"""The page: key figures, then the sections in the order of the work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from t5x_style.report import curation, data, evaluation, markup, samples, training
from t5x_style.report.markup import Markup
from t5x_style.report.sources import Sources

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #222;
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header > div { max-width: 1000px; margin: 0 auto; padding: 0 20px; }
header { background: #F3F6F9; border-bottom: 1px solid #DCE3EA; padding: 24px 0 20px; }
h1 { font-size: 26px; margin: 0 0 2px; }
h2 { font-size: 20px; margin: 40px 0 10px; padding-top: 6px; border-top: 2px solid #0072B2; }
h3 { font-size: 15px; margin: 20px 0 6px; }
header p { margin: 0; color: #555; }
nav { margin-top: 10px; font-size: 14px; }
nav a { color: #005B8F; margin-right: 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(215px, 1fr)); gap: 12px; margin: 22px 0 0; }
.card { border: 1px solid #DCE3EA; border-radius: 8px; padding: 10px 12px; background: #fff; }
.card .value { font-size: 24px; font-weight: 650; color: #00507E; line-height: 1.25; }
.card .label { font-weight: 600; font-size: 13.5px; }
.card .detail { color: #555; font-size: 12.5px; }
figure { margin: 6px 0 12px; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
.narrow { max-width: 520px; }
table { border-collapse: collapse; font-size: 13.5px; margin: 6px 0; width: 100%; }
th, td { padding: 4px 10px 4px 0; border-bottom: 1px solid #E6E6E6; vertical-align: top; text-align: left; }
th { border-bottom: 1.5px solid #999; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
.pieces span { display: inline-block; font: 13px/1.7 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0 2px 3px 0;
  padding: 0 4px; border-radius: 3px; background: #DCEBF5; }
.pieces span:nth-child(even) { background: #FBE7C4; }
.note { color: #555; font-size: 13.5px; }
.good { color: #00654A; font-weight: 600; }
.missing { background: #F4F4F4; border-left: 4px solid #999; padding: 8px 12px; }
.problem { background: #FFF1E8; border-left: 4px solid #D55E00; padding: 8px 12px; }
.sample { border: 1px solid #DCE3EA; border-radius: 8px; padding: 4px 14px 12px; margin: 14px 0; }
.sides { display: grid; grid-template-columns: 1.35fr 1fr; gap: 16px; align-items: start; }
@media (max-width: 700px) { .sides { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
  font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
.prompt { background: #F7F7F7; border-radius: 6px; padding: 10px; max-height: 420px; overflow-y: auto; }
.answer pre { max-height: 200px; overflow-y: auto; }
.answer { border-left: 4px solid #8A8A8A; padding: 2px 10px; margin-bottom: 10px; }
.answer.target { border-color: #222; }
.answer.right { border-color: #009E73; }
.who { font-size: 12.5px; font-weight: 650; color: #444; }
footer { color: #666; font-size: 13px; margin: 40px 0 30px; }
"""


def build(sources: Sources) -> str:
    """The whole page as HTML."""
    entropy = training.unigram_entropy(sources)
    parts = [
        ("funnel", "Curation", curation.section(sources)),
        ("tokenizer", "Tokenizer", data.tokenizer(sources)),
        ("data", "Training data", data.caches(sources)),
        ("loss", "Loss", training.losses(sources, entropy)),
        ("speed", "Speed", training.speed(sources)),
        ("evaluation", "Evaluation", evaluation.tasks_section(sources)),
        ("perplexity", "Perplexity", evaluation.perplexity_section(sources)),
        ("samples", "Samples", samples.section(sources)),
    ]
    title = f"Report: {sources.folder.resolve().name if sources.folder else sources.model_dir.resolve().name}"
    links = [markup.element("a", name, href=f"#{anchor}") for anchor, name, _ in parts]
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime())
    head = markup.element(
        "header",
        markup.element(
            "div",
            markup.element("h1", title),
            markup.paragraph(f"Model {sources.shown}. Made {made}."),
            markup.element("nav", *links),
            markup.element("div", *cards(sources, entropy), class_="cards"),
        ),
    )
    body = [
        markup.element("section", markup.element("h2", name, id=anchor), content) for anchor, name, content in parts
    ]
    foot = markup.element("footer", "All figures are read from the files of this run.")
    page = markup.element("body", head, markup.element("main", *body, foot))
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    start = f'<!doctype html>\n<html lang="en"><head>{meta}<title>{markup.escape(title)}</title>'
    return f"{start}<style>{STYLE}</style></head>\n{page}</html>\n"


def cards(sources: Sources, entropy: float | None) -> list[Markup]:
    """The key figures that are known."""
    found = [_documents(sources), _tokens(sources), _parameters(sources), _loss(sources, entropy)]
    return [card for card in [*found, *_accuracies(sources), _bits(sources), _time(sources)] if card is not None]


def _documents(sources: Sources) -> Markup | None:
    stages = (sources.json("web/stats.json") or {}).get("stages")
    if not stages:
        return None
    return markup.card(markup.count(stages[-1]["kept"]), "documents kept", f"of {stages[0]['in']:,} that came in")


def _tokens(sources: Sources) -> Markup | None:
    train = [m for m in data.manifests(sources) if m["task"] == "documents" and m["split"] == "train"]
    if not train:
        return None
    detail = f"{train[0]['examples']:,} documents"
    return markup.card(markup.short(sum(train[0]["tokens"].values())), "tokens to pretrain on", detail)


def _parameters(sources: Sources) -> Markup | None:
    if not (sources.model_dir / "model.json").exists():
        return None
    from t5x_style import model_dir, models

    config = model_dir.read_config(sources.model_dir)
    detail = f"{len(config.layers)} layers, width {config.embed_dim}"
    return markup.card(markup.short(models.parameter_count(config)), "parameters", detail)


def _loss(sources: Sources, entropy: float | None) -> Markup | None:
    run = sources.runs.get(training.PRETRAINING)
    if run is None:
        return None
    _, values = training.series(sources.rows(run, "eval"), "loss")
    if not values:
        return None
    detail = "held-out, nats per token" + (f"; unigram entropy {entropy:.2f}" if entropy is not None else "")
    return markup.card(f"{values[-1]:.2f}", "pretraining loss", detail)


def _accuracies(sources: Sources) -> list[Markup]:
    results = sources.results()
    if results is None:
        return []
    made = []
    for group, label in (("held-out templates", "accuracy, new wordings"), ("held-out cluster", "accuracy, new task")):
        means = evaluation.group_means(results, group, "rank_accuracy")
        names = list(means)
        if names:
            before = f"{names[0]}: {markup.percent(means[names[0]])}" if len(names) > 1 else "mean over tasks"
            made.append(markup.card(markup.percent(means[names[-1]]), label, f"{names[-1]}, ranked; {before}"))
    return made


def _bits(sources: Sources) -> Markup | None:
    results = sources.results()
    names: Sequence[str] = evaluation.model_names(results) if results else []
    for name in names:
        for cache, entry in (results or {})["models"][name]["perplexity"].items():
            bits = entry["metrics"]["bits_per_byte"]
            return markup.card(f"{bits:.2f}", "bits per byte", f"{name}, held-out {cache}")
    return None


def _time(sources: Sources) -> Markup | None:
    stages = (sources.json("quickstart.json") or {}).get("stages")
    if not stages:
        return None
    return markup.card(markup.duration(sum(stage["seconds"] for stage in stages)), "in all", f"{len(stages)} stages")


def write(sources: Sources, output: str | Path) -> Path | str:
    """Writes the page to `output` in one step and returns the path."""
    from t5x_style import files

    files.atomic_write_text(output, build(sources))
    return output if files.is_remote(output) else Path(output)
