"""Texts with the special tokens that objectives of encoders write around them."""

from __future__ import annotations

import numpy as np

from t5x_style.data.ids import Ids


def around(ids: Ids) -> int:
    """How many tokens `surrounded` adds at most."""
    return (ids.cls is not None) + (ids.sep is not None)


def surrounded(document: np.ndarray, start: int, length: int, feature: str, ids: Ids) -> np.ndarray:
    """[CLS] document[start : start + length] [SEP], each where the vocabulary has it.

    Without [SEP] the piece that ends a document ends as its Task wants, where there is room for its EOS.

    Example: cls 2, sep None, eos 1, wanted: the document [5, 6, 7] in pieces of 2 is [2, 5, 6] and [2, 7, 1].
    """
    text = document[start : start + length]
    if ids.sep is None and start + length > len(document):
        text = ids.ended(feature, text)
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
