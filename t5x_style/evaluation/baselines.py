"""What needs no reading: always giving the most frequent answer, or picking an option blindly.

Taken from the examples that are evaluated, so they are what a model must beat on exactly these; where the data's own
examples.json has baselines (from the training split, and for other metrics than accuracy), those come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def majority(answers: Sequence[str]) -> tuple[str, float]:
    """The most frequent answer and its share; of equally frequent ones the first.

    Example:
      majority(["a", "b", "a"]) == ("a", 2 / 3)

    Raises:
      ValueError: no answers.
    """
    if not answers:
        raise ValueError("no answers")
    answer, count = Counter(answers).most_common(1)[0]
    return answer, count / len(answers)


def of_answers(answers: Sequence[str]) -> dict[str, Any]:
    """Baselines of a Task whose answers are generated: {"majority", "answer"}."""
    answer, share = majority(answers)
    return {"majority": share, "answer": answer}


def of_options(groups: Sequence[int], answers: Sequence[str], correct: Sequence[bool]) -> dict[str, Any]:
    """Baselines of a Task with one row per option.

    Args:
      groups: the example that each row is an option of. answers: the option's text. correct: whether it is right.

    Returns:
      {"majority", "answer", "chance": mean of 1 / options}.

    Example:
      of_options([0, 0, 1, 1], ["yes", "no", "yes", "no"], [True, False, True, False])
      == {"majority": 1.0, "answer": "yes", "chance": 0.5}
    """
    sizes = Counter(groups)
    chance = sum(1 / size for size in sizes.values()) / len(sizes)
    return {**of_answers([text for text, right in zip(answers, correct) if right]), "chance": chance}


def for_metrics(
    task: str, metrics: Iterable[str], own: Mapping[str, Any], recorded: Mapping[str, Any], split: str
) -> dict[str, float]:
    """The baseline of every metric that has one.

    Args:
      task: the Task's name; `_rank` and `_template_heldout` twins share the baselines of their cluster.
      metrics: names of the Task's metrics.
      own: of `of_answers` or `of_options`. recorded: content of examples.json, {} where there is none.
      split: which of its splits.

    Example:
      for_metrics("a_rank", ["rank_accuracy"], {"majority": 0.5}, {}, "test") == {"rank_accuracy": 0.5}
    """
    cluster = task.removesuffix("_rank").removesuffix("_template_heldout")
    entry = recorded.get("tasks", {}).get(cluster, {}).get("splits", {}).get(split, {}).get("baselines", {})
    found = {}
    for metric in metrics:
        plain = "accuracy" if metric.startswith("rank_accuracy") else metric
        guesses = [entry[f"{kind}_{plain}"] for kind in ("majority", "lead") if f"{kind}_{plain}" in entry]
        if guesses:
            found[metric] = float(max(guesses))
        elif plain in ("accuracy", "exact_match"):
            found[metric] = float(own["majority"])
    return found
