"""Loss curves of the runs, against the unigram entropy, and how fast they and the whole quickstart were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from t5x_style.report import data, figures, markup, unigram
from t5x_style.report.markup import Markup
from t5x_style.report.sources import Sources

PRETRAINING = "Pretraining"


def unigram_entropy(sources: Sources) -> float | None:
    """Nats per token of the pretraining tokens' distribution; None where their cache is not there."""
    found = data.training_tokens(sources)
    return None if found is None else unigram.entropy(unigram.token_counts(*found))


def smooth(values: Sequence[float], width: int) -> np.ndarray:
    """Centred moving mean over `width` values, shorter at the ends: smooth([0, 3, 6, 9], 3) == [1.5, 3, 6, 7.5]."""
    array = np.asarray(values, np.float64)
    half = width // 2
    return np.array([array[max(0, i - half) : i + half + 1].mean() for i in range(len(array))])


def series(rows: Sequence[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """(steps, values) of one metric, rows without it (or with null, not finite) left out."""
    kept = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
    return [step for step, _ in kept], [value for _, value in kept]


def losses(sources: Sources, entropy: float | None) -> Markup:
    """One panel a run: training loss, evaluation points; the unigram entropy in pretraining's."""
    if not sources.runs:
        return markup.missing("No metrics.jsonl: no training run was found.")
    with figures.figure(1, len(sources.runs), 3.7, squeeze=False) as (made, axes):
        for axis, (title, path) in zip(axes.flat, sources.runs.items()):
            steps, values = series(sources.rows(path, "train"), "loss")
            width = max(1, len(values) // 25) | 1
            axis.plot(steps, values, color=figures.SKY, linewidth=1, alpha=0.9 if width > 1 else 0)
            axis.plot(steps, smooth(values, width), color=figures.BLUE, linewidth=2, label="training")
            steps, values = series(sources.rows(path, "eval"), "loss")
            axis.plot(steps, values, "o--", color=figures.VERMILION, linewidth=1, markersize=5, label="held-out")
            if title == PRETRAINING and entropy is not None:
                axis.axhline(entropy, color=figures.INK, linestyle=":", linewidth=1.5)
                axis.annotate(
                    f"unigram entropy {entropy:.2f}",
                    (0.99, entropy),
                    (0, 3),
                    xycoords=axis.get_yaxis_transform(),
                    textcoords="offset points",
                    ha="right",
                    fontsize=9,
                )
            axis.set(title=title, xlabel="optimizer step", ylabel="loss (nats per token)")
            axis.legend(loc="lower left")  # curves fall from the upper left to the lower right
        picture = figures.image(made, "Training and held-out loss over steps, one panel for each run")
    return markup.join([picture, _loss_table(sources), _entropy_note(sources, entropy)])


def _loss_table(sources: Sources) -> Markup:
    rows = []
    for title, path in sources.runs.items():
        train, held_out = (sources.rows(path, kind) for kind in ("train", "eval"))
        (steps, losses_), (_, evals) = series(train, "loss"), series(held_out, "loss")
        skipped = int(train[-1].get("skipped") or 0) if train else 0
        rows.append([title, steps[-1] if steps else "–", _ends(losses_), _ends(evals), skipped])
    header = ["run", "steps", "training loss, first to last", "held-out loss, first to last", "skipped updates"]
    return markup.table(header, rows)


def _ends(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} → {values[-1]:.3f}" if values else "–"


def _entropy_note(sources: Sources, entropy: float | None) -> Markup:
    if PRETRAINING not in sources.runs:
        return Markup("")
    if entropy is None:
        return markup.missing("cache/documents/train is not there: the unigram entropy is unknown.")
    return markup.note(
        "Unigram entropy: the loss of the best model that knows only how often each token occurs in the training "
        "documents. Below it, a model uses context."
    )


def speed(sources: Sources) -> Markup:
    """Tokens per second over steps, and the time of every stage of the quickstart."""
    found = {title: series(sources.rows(path, "train"), "tokens_per_second") for title, path in sources.runs.items()}
    found = {title: pair for title, pair in found.items() if pair[0]}
    stages = (sources.json("quickstart.json") or {}).get("stages", [])
    panels = bool(found) + bool(stages)
    if not panels:
        return markup.missing("Neither metrics.jsonl nor quickstart.json is there: nothing was timed.")
    with figures.figure(1, panels, max(2.8, 0.8 + 0.27 * len(stages)), squeeze=False) as (made, axes):
        if found:
            axis = axes.flat[0]
            for (title, (steps, values)), color in zip(found.items(), (figures.BLUE, figures.ORANGE, figures.GREEN)):
                axis.plot(steps, values, ".-", color=color, label=title)
            axis.set(title="Throughput", xlabel="optimizer step", ylabel="tokens per second")
            axis.set_ylim(0, 1.15 * max(max(values) for _, values in found.values()))
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.legend(loc="lower right")
        if stages:
            _stage_bars(axes.flat[-1], stages)
        picture = figures.image(made, "Tokens per second over training steps, and seconds of every stage")
    return markup.join([picture, _speed_table(sources, found)])


def _stage_bars(axis: Any, stages: Sequence[dict[str, Any]]) -> None:
    seconds = [stage["seconds"] for stage in stages]
    axis.barh(range(len(stages)), seconds, color=figures.BLUE)
    for place, value in enumerate(seconds):
        axis.text(value, place, f" {markup.duration(value)}", va="center", fontsize=9)
    names = [figures.plain_text(stage["name"], 24) for stage in stages]
    axis.set(yticks=list(range(len(stages))), yticklabels=names, xlabel="seconds")
    axis.set_title(f"Time of every stage, {markup.duration(sum(seconds))} in all")
    axis.set_xlim(0, max([*seconds, 1e-3]) * 1.25)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def _speed_table(sources: Sources, found: dict[str, tuple[list[int], list[float]]]) -> Markup:
    rows = []
    for title, (_, values) in found.items():
        train = sources.rows(sources.runs[title], "train")
        memory = max(series(train, "memory_gib")[1], default=None)
        _, mfu = series(train, "mfu")
        rows.append(
            [
                title,
                markup.count(float(np.median(values))),
                "–" if memory is None else f"{memory:.2f} GiB",
                markup.percent(float(np.median(mfu))) if mfu else "–",
            ]
        )
    header = ["run", "tokens per second (median)", "memory at most", "model FLOP utilisation"]
    return markup.table(header, rows) if rows else Markup("")
