"""Shape buckets: every compiled shape is a power of two, so a workload compiles a handful of programs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from t5x_style.errors import UserError

# Shorter rows gain nothing: below 16 tokens the launch of a program costs more than its arithmetic.
MIN_LENGTH = 16


def bucket(size: int, minimum: int = 1) -> int:
    """The smallest power of two that is at least `size` and `minimum`. Example: bucket(17) is 32."""
    return 1 << (max(size, minimum, 1) - 1).bit_length()


def check_rows(rows: Sequence[Sequence[int]], vocab_size: int, what: str) -> None:
    """Raises UserError unless every row holds at least one id and every id is in the vocabulary."""
    for index, row in enumerate(rows):
        if len(row) == 0:
            raise UserError(f"{what} {index} is empty; begin it with the start id of the model, such as BOS")
        low, high = min(row), max(row)
        if low < 0 or high >= vocab_size:
            wrong = low if low < 0 else high
            raise UserError(
                f"{what} {index} holds id {wrong}, outside the vocabulary of {vocab_size}; check the tokenizer"
            )


def left_padded(rows: Sequence[Sequence[int]], batch: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segment ids and positions, each int32 [batch, length], padding on the left.

    Example, rows [[5, 6], [7]], batch 2, length 3: tokens [[0, 5, 6], [0, 0, 7]], segments [[0, 1, 1], [0, 0, 1]],
    positions [[0, 0, 1], [0, 0, 0]].
    """
    tokens = np.zeros((batch, length), np.int32)
    segments = np.zeros((batch, length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, length - len(row) :] = row
        segments[index, length - len(row) :] = 1
    positions = np.maximum(np.cumsum(segments, axis=1) - 1, 0).astype(np.int32)
    return tokens, segments, positions


def right_padded(rows: Sequence[Sequence[int]], batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and segment ids, each int32 [batch, length], padding on the right.

    Example, rows [[5, 6], [7]], batch 2, length 3: tokens [[5, 6, 0], [7, 0, 0]], segments [[1, 1, 0], [1, 0, 0]].
    """
    tokens = np.zeros((batch, length), np.int32)
    segments = np.zeros((batch, length), np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
        segments[index, : len(row)] = 1
    return tokens, segments


def unpadded(tokens: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """The rows of a padded batch as lists: what `generate` and `score` take, whichever side the padding is on.

    Example, tokens [[0, 5, 6], [7, 0, 0]], mask [[0, 1, 1], [1, 0, 0]]: [[5, 6], [7]].
    """
    return [np.asarray(row)[np.asarray(seen) != 0].tolist() for row, seen in zip(tokens, mask, strict=True)]
