"""Texts with the special tokens that objectives of encoders write around them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from t5x_style.data.ids import Ids


def around(ids: Ids) -> int:
    """How many tokens `surrounded` adds at most."""
    return (ids.cls is not None) + (ids.sep is not None)


def surrounded(document: np.ndarray, row: int, feature: str, ids: Ids) -> Iterator[tuple[np.ndarray, int]]:
    """A document in pieces of at most `row` tokens, [CLS] text [SEP], and how many tokens of it each holds.

    Each stands where the vocabulary has it. Without [SEP] the piece that ends a document ends as its Task wants, where
    there is room for its EOS.

    Example: cls 2, sep None, eos 1, wanted: [5, 6, 7] in rows of 3 is ([2, 5, 6], 2) and ([2, 7, 1], 1).
    """
    length = row - around(ids)
    for start in range(0, len(document), length):
        text = document[start : start + length]
        ended = ids.ended(feature, text) if ids.sep is None and start + length > len(document) else text
        yield _between(ended, ids), len(text)


def _between(text: np.ndarray, ids: Ids) -> np.ndarray:
    parts = [text]
    if ids.cls is not None:
        parts.insert(0, np.array([ids.cls], np.int32))
    if ids.sep is not None:
        parts.append(np.array([ids.sep], np.int32))
    return np.concatenate(parts)


def is_special(tokens: np.ndarray, ids: Ids) -> np.ndarray:
    """[L] bool: what the cache says is special (an older one says nothing), and what objectives write themselves."""
    found = np.zeros(len(tokens), bool) if ids.special is None else ids.special[tokens]
    for token in (ids.cls, ids.sep, ids.eos, ids.mask):
        if token is not None:
            found |= tokens == token
    return found
