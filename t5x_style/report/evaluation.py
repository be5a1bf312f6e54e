"""Models compared: task metrics against the baselines, group by group, and perplexity before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from t5x_style.report import figures, markup
from t5x_style.report.markup import Cell, Markup
from t5x_style.report.sources import Sources

# The metric that stands for a Task in plots and cards: the first of these that it has, else its first by name.
MAIN_METRICS = ("rank_accuracy", "accuracy", "exact_match", "set_f1", "rougeLsum", "rouge1")
OTHER = "other tasks"
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
MISSING = markup.missing("evaluation.json is not there: nothing was evaluated. Write it with t5x_style.evaluate.")


def model_names(results: dict[str, Any]) -> list[str]:
    """The models in the order they were evaluated: the first is the base, the last the tuned one."""
    return [name for name in results.get("order", sorted(results["models"])) if name in results["models"]]


def grouped_tasks(results: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(group, Tasks that any model was evaluated on), Tasks of no group last."""
    known = {task for model in results["models"].values() for task in model["tasks"]}
    groups = [(group["name"], [task for task in group["tasks"] if task in known]) for group in results["groups"]]
    rest = sorted(known - {task for _, tasks in groups for task in tasks})
    return [(name, tasks) for name, tasks in [*groups, (OTHER, rest)] if tasks]


def main_metric(metrics: dict[str, float]) -> str:
    """The metric that stands for a Task."""
    return next((name for name in MAIN_METRICS if name in metrics), min(metrics))


def entries(results: dict[str, Any], task: str) -> dict[str, dict[str, Any]]:
    """model -> its result on a Task, those that have one."""
    return {
        name: results["models"][name]["tasks"][task]
        for name in model_names(results)
        if task in results["models"][name]["tasks"]
    }


def group_means(results: dict[str, Any], group: str, metric: str) -> dict[str, float]:
    """model -> mean of one metric over the group's Tasks that have it, for models that were run on all of them."""
    tasks = dict(grouped_tasks(results)).get(group, [])
    found: dict[str, float] = {}
    with_metric = [
        task for task in tasks if any(metric in entry["metrics"] for entry in entries(results, task).values())
    ]
    for name in model_names(results):
        values = [entries(results, task).get(name, {}).get("metrics", {}).get(metric) for task in with_metric]
        if values and None not in values:
            found[name] = sum(values) / len(values)
    return found


def short_task(task: str) -> str:
    """A Task's name for an axis: documentation_kind_template_heldout_rank -> kind (held-out wording), ranked."""
    plain = task.removeprefix("documentation_")
    ranked = plain.endswith("_rank")
    plain = plain.removesuffix("_rank")
    wording = plain.endswith("_template_heldout")
    plain = plain.removesuffix("_template_heldout")
    return plain + (" (new wording)" if wording else "") + (", ranked" if ranked else "")


def tasks_section(sources: Sources) -> Markup:
    """Bars by group with baselines marked, and the table of all metrics."""
    results = sources.results()
    if results is None:
        return MISSING
    groups = grouped_tasks(results)
    if not groups:
        return markup.missing("The results hold no tasks.")
    parts: list[Markup] = [_bars(results, groups)]
    parts.append(
        markup.note(
            "The black mark is the baseline: the most frequent answer, or for summaries the first sentence of the text "
            "itself. Ranked: the option with the highest log-probability counts as the answer. Others are generated."
        )
    )
    for group, tasks in groups:
        parts += [markup.element("h3", group), _table(results, tasks)]
    return markup.join([*parts, _remarks(results)])


def _bars(results: dict[str, Any], groups: Sequence[tuple[str, list[str]]]) -> Markup:
    models = model_names(results)
    sizes = [len(tasks) for _, tasks in groups]
    height = 0.6 + sum(0.62 + 0.17 * (len(models) + 0.9) * size for size in sizes)
    options = {"sharex": True, "squeeze": False, "gridspec_kw": {"height_ratios": [size + 0.6 for size in sizes]}}
    with figures.figure(len(groups), 1, height, **options) as (made, axes):
        for axis, (group, tasks) in zip(axes.flat, groups):
            _panel(axis, results, models, group, tasks)
        axes.flat[-1].set_xlabel("score (0 to 1)")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside upper right", ncols=len(labels))
        return figures.image(made, "Scores of every model on every task, by group, with baselines")


def _panel(axis: Any, results: dict[str, Any], models: list[str], group: str, tasks: list[str]) -> None:
    thickness = 0.8 / len(models)
    labels = []
    for place, task in enumerate(tasks):
        found = entries(results, task)
        metric = main_metric(next(iter(found.values()))["metrics"])
        labels.append(f"{figures.plain_text(short_task(task), 36)}\n{metric}")
        for index, name in enumerate(models):
            if metric not in found.get(name, {}).get("metrics", {}):
                continue
            value = found[name]["metrics"][metric]
            at = place - 0.4 + (index + 0.5) * thickness
            color = figures.MODELS[index % len(figures.MODELS)]
            axis.barh(at, value, thickness * 0.94, color=color, label=name if place == 0 else None)
            axis.text(value + 0.006, at, f"{value:.2f}", va="center", fontsize=8, zorder=4, bbox=_BEHIND_TEXT)
        line = next((entry["baselines"][metric] for entry in found.values() if metric in entry["baselines"]), None)
        if line is not None:
            axis.plot(
                [line, line],
                [place - 0.44, place + 0.44],
                color="black",
                linewidth=2.2,
                solid_capstyle="butt",
                label="baseline" if "baseline" not in axis.get_legend_handles_labels()[1] else None,
            )
    axis.set(yticks=range(len(tasks)), title=figures.plain_text(group, 60), xlim=(0, 1.05))
    axis.set_yticklabels(labels, fontsize=8.5)
    axis.set_ylim(len(tasks) - 0.45, -0.55)
    axis.grid(axis="y", visible=False)


def _table(results: dict[str, Any], tasks: Sequence[str]) -> Markup:
    models = model_names(results)
    rows = []
    for task in tasks:
        found = entries(results, task)
        first = next(iter(found.values()))
        for metric in sorted({metric for entry in found.values() for metric in entry["metrics"]}):
            values = [found.get(name, {}).get("metrics", {}).get(metric) for name in models]
            known = [value for value in values if value is not None]
            best, worst = max(known), min(known)
            cells = ["–" if value is None else Cell(f"{value:.3f}", value == best > worst) for value in values]
            line = next((entry["baselines"][metric] for entry in found.values() if metric in entry["baselines"]), None)
            rows.append([task, metric, *cells, "–" if line is None else f"{line:.3f}", first["examples"]])
    return markup.table(["task", "metric", *models, "baseline", "examples"], rows, text_columns=2)


def _remarks(results: dict[str, Any]) -> Markup:
    parts = []
    for name in model_names(results):
        model = results["models"][name]
        tasks = model["tasks"].values()
        cut = sum(entry["cut_inputs"] for entry in tasks)
        unfinished = sum(entry.get("unfinished_outputs", 0) for entry in tasks)
        rows, seconds = sum(entry["rows"] for entry in tasks), sum(entry["seconds"] for entry in tasks)
        parts.append(
            f"{name}: {rows:,} rows in {markup.duration(seconds)}, {cut:,} inputs cut to the length, "
            f"{unfinished:,} answers stopped at the limit of new tokens."
        )
        if stale := sum(entry["step"] != model["step"] for entry in tasks):
            parts.append(f"{stale:,} results of {name} are not of step {model['step']:,}: evaluate them again.")
    return markup.note(" ".join(parts))


def perplexity_section(sources: Sources) -> Markup:
    """Perplexity by token, word and byte of every model on every measured cache."""
    results = sources.results()
    if results is None:
        return MISSING
    rows = []
    for cache in sorted({cache for model in results["models"].values() for cache in model["perplexity"]}):
        for name in model_names(results):
            entry = results["models"][name]["perplexity"].get(cache)
            if entry is not None:
                found = entry["metrics"]
                figures_ = [f"{found[key]:,.{digits}f}" for key, digits in _PERPLEXITY]
                rows.append(
                    [
                        name,
                        f"{cache} ({entry['settings']['perplexity_split']})",
                        *figures_,
                        markup.count(found["tokens"]),
                    ]
                )
    if not rows:
        return markup.missing("The results hold no perplexity.")
    header = ["model", "documents", "loss", "per token", "per word", "per byte", "bits per byte", "tokens"]
    remark = "Every token of every measured document counts once; long documents continue in new segments. Instruction "
    remark += "tuning moves a model away from plain documents, so some increase is expected."
    return markup.join([markup.table(header, rows, text_columns=2), markup.note(remark)])


_PERPLEXITY = (("loss", 3), ("perplexity", 2), ("word_perplexity", 1), ("byte_perplexity", 3), ("bits_per_byte", 3))
