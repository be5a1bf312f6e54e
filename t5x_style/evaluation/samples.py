"""What the results keep of single examples, and the Task's baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t5x_style.evaluation import baselines
from t5x_style.evaluation.seqio_tasks import PREDICTION, SCORE, Computed, TaskData


def text_of(data: TaskData, example: Mapping[str, Any], feature: str) -> str:
    """A feature as text: the original where the Task kept it, else decoded."""
    original = example.get(f"{feature}_pretokenized")
    if original is not None:
        return original.decode("utf-8") if isinstance(original, bytes) else str(original)
    if feature not in example:
        return ""
    return data.task.output_features[feature].vocabulary.decode([int(token) for token in example[feature]])


def baseline(data: TaskData) -> dict[str, Any]:
    """Baselines from the evaluated examples (see baselines.py); options where the Task marks the correct one."""
    answers = [text_of(data, example, "targets") for example in data.examples]
    if all("is_correct" in example for example in data.examples):
        correct = [bool(example["is_correct"]) for example in data.examples]
        if any(correct):
            return baselines.of_options(data.groups, answers, correct)
    return baselines.of_answers(answers)


def collect(data: TaskData, computed: Computed, outputs: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """At most `count` examples, evenly spread, the same for every model.

    Returns:
      One object an example: {"example": its number, "inputs", "target" (the correct option's text where it is marked,
      else the first row's), "prediction" (as the metrics saw it, where text was generated), "options": [{"text",
      "score", "correct"}] (where targets were scored)}.
    """
    rows_of: dict[int, list[int]] = {}
    for row, group in enumerate(data.groups):
        rows_of.setdefault(group, []).append(row)
    groups = list(rows_of)
    chosen = groups[:: max(1, len(groups) // count)][:count] if count else []
    return [_sample(data, computed, outputs, group, rows_of[group]) for group in chosen]


def _sample(data: TaskData, computed: Computed, outputs: Mapping[str, Any], group: int, rows: list[int]) -> dict:
    texts = {row: text_of(data, data.examples[row], "targets") for row in rows}
    marked = {row: bool(data.examples[row].get("is_correct", False)) for row in rows}
    answer = next((row for row in rows if marked[row]), rows[0])
    sample: dict[str, Any] = {
        "example": group,
        "inputs": text_of(data, data.examples[answer], "inputs"),
        "target": texts[answer],
    }
    if PREDICTION in outputs and computed.predictions is not None:
        sample["prediction"] = str(computed.predictions[answer])
    if SCORE in outputs:
        sample["options"] = [
            {"text": texts[row], "score": round(float(outputs[SCORE][row]), 4), "correct": marked[row]} for row in rows
        ]
    return sample
