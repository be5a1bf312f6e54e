"""Pieces of documents that stand in a test, without a cache or a loader."""

import numpy as np

from t5x_style.data.ids import Ids
from t5x_style.data.objectives import Example

CLS, SEP, MASK, EOS = 2, 3, 4, 1
SENTINELS = tuple(range(999, 899, -1))
NAMED = {
    "[NLU]": 90,
    "[NLG]": 91,
    "[S2S]": 92,
    "[gMASK]": 21,
    "[MASK]": 4,
    "<|startofpiece|>": 30,
    "<|endofpiece|>": 31,
}
SPECIAL = np.zeros(1000, bool)
SPECIAL[[0, CLS, SEP, MASK, EOS, *NAMED.values(), *SENTINELS]] = True
WORD = ~SPECIAL & (np.arange(1000) % 3 != 2)  # a third of the pieces continue a word
SENTENCE = ~SPECIAL & (np.arange(1000) % 10 == 0)


def ids_of(**given):
    """Ids of a vocabulary of 1,000 with T5's EOS and sentinels; given: others, or None for what it has not."""
    known = {"size": 1000, "eos": EOS, "sentinels": SENTINELS, "named": NAMED, "special": SPECIAL}
    return Ids(**{**known, "starts_word": WORD, "ends_sentence": SENTENCE, **given})


def bert_ids(**given):
    return ids_of(**{"cls": CLS, "sep": SEP, "mask": MASK, "eos": None, **given})


def examples_of(**features):
    """One example for each entry of the features' lists."""
    count = len(next(iter(features.values())))
    return [
        Example({name: np.array(values[index], np.int32) for name, values in features.items()}, index)
        for index in range(count)
    ]


def pieces(objective, length, *, ids=None, seed=0, rng=None, **features):
    """The pieces of a group; each feature is a list of token lists, one an example."""
    rng = np.random.default_rng(seed) if rng is None else rng
    ids = ids_of() if ids is None else ids
    return list(objective.segments(examples_of(**features), objective.lengths(length), ids, rng))


def fields(piece):
    return {name: np.asarray(array).tolist() for name, array in piece.fields.items()}


def check_counts(objective, found, total, length):
    """Every token of the cache is in a piece or counted as cut; fields are the spec's, and fit their rows."""
    assert sum(piece.raw + piece.cut for piece in found) == total
    assert all(piece.raw >= 0 and piece.cut >= 0 for piece in found)
    if not any(piece.cut for piece in found):
        assert sum(piece.raw for piece in found) == total
    spec, rows = objective.spec, objective.lengths(length)
    held = {field.name: field for field in spec.fields}
    for piece in found:
        sizes = {}
        for name, array in piece.fields.items():
            if name.endswith("_parts"):
                continue
            field = held[name]
            assert field.role in ("given", "shifted", "index")
            assert array.shape[1:] == field.trailing
            assert array.dtype == field.dtype, name
            sizes.setdefault(field.side, set()).add(len(array))
        assert all(len(found) == 1 for found in sizes.values()), sizes
        for side, found_sizes in sizes.items():
            assert 0 < max(found_sizes) <= rows[side]


def some_ids():
    """Ordinary ids of 100 .. 899, as documents of the tests have them."""
    return np.flatnonzero(~SPECIAL)[100:]


def document(length, seed=0):
    return np.random.default_rng(seed).choice(some_ids(), length).astype(np.int32)
