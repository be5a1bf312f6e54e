"""What an answer that never reads the question scores: the bar for every figure of the evaluation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from beam_pipelines.examples.candidates import Candidate
from tasks.metrics import accuracy, rouge, set_f1


def baselines(task: str, train: Sequence[Candidate], split: Sequence[Candidate]) -> Mapping[str, float]:
    """Scores of trivial answers on one split.

    Classification: always the most frequent answer of the training split. Arguments: likewise, the most frequent
    list of names. Summary: the first sentence of the body ("lead").

    Returns:
      {"majority_accuracy"}, {"majority_set_f1", "majority_set_exact"} or {"lead_rouge1", ...}; {} for an empty split.
    """
    if not split or not train:
        return {}
    targets = [candidate.answer for candidate in split]
    if task == "documentation_summary":
        scores = rouge(targets, [first_sentence(candidate.fields["body"]) for candidate in split])
        return {f"lead_{name}": value for name, value in scores.items()}
    counts = Counter(candidate.answer for candidate in train)
    majority = min(counts, key=lambda answer: (-counts[answer], answer))
    score = set_f1 if task == "documentation_arguments" else accuracy
    return {f"majority_{name}": value for name, value in score(targets, [majority] * len(targets)).items()}


def first_sentence(text: str) -> str:
    """The first paragraph up to a full stop before white space: `first_sentence("A b. C") == "A b."`."""
    paragraph = re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0]
    return " ".join(re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0].split())
