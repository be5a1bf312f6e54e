"""Prompts as in training: the inputs, cut to what the row leaves them."""

from __future__ import annotations

from collections.abc import Sequence


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
