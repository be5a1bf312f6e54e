"""Examples side by side: the prompt, the right answer, and what every model said."""

from __future__ import annotations

from typing import Any

from t5x_style.report import evaluation, markup
from t5x_style.report.markup import Markup
from t5x_style.report.sources import Sources

SHOWN = 10


def choose(results: dict[str, Any], count: int) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """(Task, model -> sample) of at most `count` examples, taken from the Tasks in turn.

    Only examples that the first model has; another model's sample is the one of the same example. Tasks with generated
    answers come before those that only rank options.
    """
    models = evaluation.model_names(results)
    tasks = [task for _, tasks in evaluation.grouped_tasks(results) for task in tasks]
    pools: list[list[tuple[str, dict[str, dict[str, Any]]]]] = []
    for turn, task in enumerate(tasks):
        found = evaluation.entries(results, task)
        by_example = {name: {row["example"]: row for row in entry["samples"]} for name, entry in found.items()}
        numbers = list(by_example[next(iter(by_example))])
        first = turn % max(1, len(numbers))  # Tasks of one cluster have the same examples: each shows other ones
        numbers = numbers[first:] + numbers[:first]
        pools.append(
            [(task, {name: by_example[name][n] for name in models if n in by_example.get(name, {})}) for n in numbers]
        )
    generated = [pool for pool in pools if pool and any("prediction" in row for row in pool[0][1].values())]
    chosen = _in_turn(generated, count)
    ranked = [pool for pool in pools if pool not in generated]
    return chosen + _in_turn(ranked, count - len(chosen))


def _in_turn(pools: list[list[Any]], count: int) -> list[Any]:
    longest = max(map(len, pools), default=0)
    return [pool[turn] for turn in range(longest) for pool in pools if turn < len(pool)][: max(count, 0)]


def section(sources: Sources) -> Markup:
    """Ten examples."""
    results = sources.results()
    if results is None:
        return evaluation.MISSING
    chosen = choose(results, SHOWN)
    if not chosen:
        return markup.missing("The results keep no samples.")
    return markup.join(_sample(number, task, found) for number, (task, found) in enumerate(chosen, 1))


def _sample(number: int, task: str, found: dict[str, dict[str, Any]]) -> Markup:
    first = next(iter(found.values()))
    answers = [_answer("target", first["target"], "target")]
    for name, sample in found.items():
        if "prediction" in sample:
            right = sample["prediction"].strip() == first["target"].strip()
            answers.append(_answer(name, sample["prediction"], "right" if right else "other"))
        if "options" in sample:
            answers.append(_options(name, sample["options"]))
    prompt = markup.element("pre", first["inputs"], class_="prompt")
    title = markup.element("h3", f"{number}. {evaluation.short_task(task)}")
    body = markup.element("div", prompt, markup.element("div", *answers), class_="sides")
    return markup.element("div", title, body, class_="sample")


def _answer(name: str, text: str, kind: str) -> Markup:
    mark = {"right": " ✓", "other": "", "target": ""}[kind]
    label = markup.element("div", name + mark, class_="who")
    shown = text if text.strip() else markup.element("em", "(nothing)")
    return markup.element("div", label, markup.element("pre", shown), class_=f"answer {kind}")


def _options(name: str, options: list[dict[str, Any]]) -> Markup:
    best = max(option["score"] for option in options)
    rows = [
        [
            markup.Cell(option["text"] + (" (right)" if option["correct"] else ""), option["score"] == best),
            markup.Cell(f"{option['score']:.2f}", option["score"] == best),
        ]
        for option in options
    ]
    label = markup.element("div", name, class_="who")
    return markup.element("div", label, markup.table(["option", "log-probability"], rows), class_="answer other")
