"""Small token caches for the tests of t5x_style.data."""

import numpy as np
import pytest

from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.shards import write_cache

PRINT = "0" * 64
OTHER = "1" * 64


def vocabulary(bos_id=3):
    return VocabularyInfo("SentencePieceVocabulary", "sentencepiece.model", 10_000, 0, 1, bos_id, 2)


@pytest.fixture
def make_cache(tmp_path):
    """make_cache(task, examples, ...) writes a cache; its folder is make_cache.folder."""

    def make(task, examples, *, split="train", shards=2, append_eos=(), trim=None, fingerprint=PRINT, bos_id=3):
        names = sorted({name for example in examples for name in example}) or ["targets"]
        parts = [list(part) for part in np.array_split(np.arange(len(examples)), shards)]
        return write_cache(
            tmp_path,
            task,
            split,
            [[examples[index] for index in part] for part in parts],
            features={name: Feature("int32", vocabulary=fingerprint) for name in names},
            vocabularies={fingerprint: vocabulary(bos_id)},
            append_eos=append_eos,
            trim=trim,
        )

    make.folder = str(tmp_path)
    return make


@pytest.fixture
def documents():
    """documents(count, seed): examples with one feature `targets`, whose tokens name the example and the place.

    Token j of document i is 10 + (37 * i + j) % 9000: runs that cannot be mistaken for another's.
    """

    def make(count, seed=0, longest=40, shortest=1):
        lengths = np.random.default_rng(seed).integers(shortest, longest + 1, count)
        return [
            {"targets": (10 + (37 * index + np.arange(length)) % 9000).astype(np.int32)}
            for index, length in enumerate(lengths.tolist())
        ]

    return make
