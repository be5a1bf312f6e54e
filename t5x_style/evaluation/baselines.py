"""What needs no reading: always giving the most frequent answer, or picking an option blindly.

Both are taken from the examples that are evaluated, so they are what a model must beat on exactly these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
