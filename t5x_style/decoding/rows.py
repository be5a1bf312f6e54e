"""Ids as users give them, lists or arrays, as the rows that models take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from t5x_style.errors import UserError

Rows: TypeAlias = Sequence[Sequence[int]] | np.ndarray | jax.Array
_LARGEST = np.iinfo(np.int32).max


def rows_of(tokens: Rows, segment_ids: Rows | None, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids [batch, length] int32, and segment ids of the same shape, None where all tokens are one segment.

    Worked example: [[5, 6, 7], [8]] gives [[5, 6, 7], [8, 0, 0]] and [[1, 1, 1], [1, 0, 0]].

    Args:
      name: how the user knows them, for messages.

    Raises:
      UserError: they are no integers [batch, length], or the segment ids do not fit.
    """
    if not isinstance(tokens, (np.ndarray, jax.Array)):
        if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Sequence):
            raise UserError(f"{name} is a {type(tokens).__name__}; give integers [batch, length]")
        tokens = [tokens] if len(tokens) and np.ndim(tokens[0]) == 0 else list(tokens)  # type: ignore[list-item]
        lengths = [len(row) for row in tokens]
        if len(set(lengths)) > 1:
            if segment_ids is not None:
                raise UserError(f"{name} has rows of unequal length; pad them to give segment ids too")
            longest = max(lengths)
            segment_ids = np.array([[1] * size + [0] * (longest - size) for size in lengths], np.int32)
            tokens = [[*row, *[0] * (longest - len(row))] for row in tokens]
    try:
        ids = np.asarray(tokens)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is no array of ids ({error})") from error
    ids = ids[None] if ids.ndim == 1 else ids
    if ids.ndim != 2 or ids.size == 0 or not np.issubdtype(ids.dtype, np.integer):
        raise UserError(f"{name} has shape {ids.shape} and type {ids.dtype}; give integers [batch, length], not empty")
    if ids.max() > _LARGEST or ids.min() < -_LARGEST:  # int32 would wrap it into the vocabulary
        raise UserError(f"{name} holds a number beyond 32 bits; give ids of the vocabulary")
    if segment_ids is None:
        return ids.astype(np.int32), None
    segments = np.asarray(segment_ids)
    segments = segments[None] if segments.ndim == 1 else segments
    if segments.dtype != bool and not np.issubdtype(segments.dtype, np.integer):
        raise UserError(f"segment ids of {name} are {segments.dtype}; give integers, 0 for padding")
    if segments.shape != ids.shape:
        raise UserError(f"segment ids of {name} have shape {segments.shape}, {name} {ids.shape}; give one a token")
    return ids.astype(np.int32), segments.astype(np.int32)


def prompt_ids(rows: Sequence[Any]) -> list[list[int]]:
    """Prompts of ids as Python's integers; nothing is rounded. UserError where they are none."""
    try:
        return [[operator.index(token) for token in row] for row in rows]
    except TypeError as error:
        raise UserError(f"generate: prompts of ids are lists of integers, such as [[1, 5, 6]] ({error})") from error
