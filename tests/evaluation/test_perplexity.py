"""Perplexities by hand, on a cache, and their independence of the chunk's length."""

import math

import numpy as np
import pytest

from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.data.shards import write_cache
from t5x_style.errors import UserError
from t5x_style.evaluation import perplexity
from t5x_style.evaluation.perplexity import Counts

NATS = math.log(2)


def uniform(inputs, targets):
    """A model that gives every token half the probability."""
    assert all(row == [] for row in inputs)
    return [-NATS * len(row) for row in targets]


def test_summary_by_hand():
    found = perplexity.summarise(Counts(nll=4 * NATS, tokens=4, words=2, bytes=8, documents=1, segments=1))
    expected = {"loss": NATS, "perplexity": 2, "word_perplexity": 4, "byte_perplexity": math.sqrt(2)}
    counts = {"bits_per_byte": 0.5, "tokens": 4, "words": 2, "bytes": 8, "documents": 1, "segments": 1}
    assert found == pytest.approx({**expected, **counts})


def test_words_without_end_do_not_overflow():
    assert perplexity.summarise(Counts(nll=1e6, tokens=10**6, words=1, bytes=10**7))["word_perplexity"] > 1e300


def test_no_text_is_an_error():
    with pytest.raises(UserError, match="no text"):
        perplexity.summarise(Counts(0.0, 0, 0, 0))


def decode(ids):
    """Two-byte words: id 7 is 'é ', so that words and bytes differ from tokens."""
    return "é " * len(ids)


@pytest.mark.parametrize("length", [1, 3, 100])
def test_every_token_counts_once_whatever_the_length(length):
    documents = [np.array([7, 7, 7, 7]), np.array([7]), np.array([], np.int32)]
    counts = perplexity.measure(documents, length, uniform, decode, eos_id=1)
    assert (counts.tokens, counts.words, counts.bytes, counts.documents) == (4 + 1 + 1 + 1 + 0 + 1, 5, 15, 3)
    assert counts.nll == pytest.approx(8 * NATS)
    assert counts.segments == sum(-(-size // length) for size in (5, 2, 1))
    assert perplexity.measure(documents, length, uniform, decode, eos_id=None).tokens == 5


@pytest.fixture
def cache(tmp_path):
    info = VocabularyInfo("SentencePiece", "x", 400, 0, 1, 3, 2)
    shards = [[{"targets": [10 * shard + row]} for row in range(5)] for shard in range(2)]
    write_cache(
        tmp_path,
        "documents",
        "test",
        shards,
        features={"targets": Feature("int32", 1, True, "print")},
        vocabularies={"print": info},
        append_eos=["targets"],
    )
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (None, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]),
        (3, [0, 3, 11]),
        (1, [0]),
        (100, [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]),
    ],
)
def test_documents_are_spread_over_the_cache(cache, limit, expected):
    manifest, documents = perplexity.read_documents(cache, "documents", "test", limit)
    assert [int(tokens[0]) for tokens in documents] == expected
    assert manifest.append_eos == ("targets",)


def test_missing_cache_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"beam_pipelines\.cache_tasks"):
        perplexity.read_documents(tmp_path, "documents", "test", None)
