"""Prompts as in training: the start id, then the inputs, cut to what the row leaves them."""

from __future__ import annotations

from collections.abc import Sequence

from t5x_style.data.vocabulary import Vocabulary


def start_id(vocabulary: Vocabulary) -> int:
    """The first token of every row: BOS, or padding where there is none (the training objectives' rule)."""
    return vocabulary.pad_id if vocabulary.bos_id is None else vocabulary.bos_id


def cut(inputs: Sequence[Sequence[int]], budget: int, side: str) -> tuple[list[list[int]], int]:
    """Inputs of at most `budget` tokens, and how many were cut; `side` is what they lose, "left" or "right".

    Example:
      cut([[1, 2, 3], [4]], 2, "left") == ([[2, 3], [4]], 1)
    """
    kept = [list(row) for row in inputs]
    long = [index for index, row in enumerate(kept) if len(row) > budget]
    for index in long:
        row = kept[index]
        kept[index] = row[len(row) - budget :] if side == "left" else row[:budget]
    return kept, len(long)
