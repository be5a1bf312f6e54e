"""MinHash: shingles, signatures against a naive sketch and the formula's curve, keys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.dedup.hashing import constants, mix
from beam_pipelines.web.dedup.minhash import MinHashDedup, signature
from beam_pipelines.web.dedup.shingles import shingle_hashes, shingle_set
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


def numbers(count, start=1):
    return mix(np.arange(start, start + count, dtype=np.uint64))


def test_shingles():
    words = ["a", "b", "c", "d", "e", "f"]
    assert len(shingle_hashes(words, 5)) == 2
    assert shingle_hashes(words, 5)[1] == shingle_hashes(words[1:], 5)[0]  # it does not depend on what stands before
    assert len(shingle_hashes(words[:2], 5)) == 1
    assert shingle_hashes(words[:2], 5) != shingle_hashes(words[1::-1], 5)
    assert len(shingle_hashes([], 5)) == 0
    assert len(shingle_hashes(["\ud800", "字"], 1)) == 2


def test_shingle_sets():
    assert len(shingle_set(["a", "b", "a", "b", "a"], 2)) == 2
    assert len(shingle_set(["a"] * 1000, 5)) == 1
    assert len(shingle_set([], 5)) == 0
    found = shingle_set([str(i % 70) for i in range(1000)], 1)
    assert found.tolist() == sorted(set(shingle_hashes([str(i) for i in range(70)], 1).tolist()))


def naive(shingles, count, seed):
    """Every round of the paper's algorithm, one throw at a time."""
    multipliers = [int(m) | 1 for m in constants(2 * count, seed)]
    values = {}
    for turn in range(2 * count):
        for shingle in map(int, shingles):
            thrown = shingle * multipliers[turn] % 2**64
            place = (thrown >> 32) * count >> 32 if turn < count else turn - count
            values[place] = min(values.get(place, 2**64), turn << 48 | thrown >> 16)
    return [values[place] for place in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 30), st.integers(0, 2**62))
def test_signature_equals_the_naive_one(size, count, seed):
    shingles = numbers(size, 1 + seed % 1000)
    assert signature(shingles, count, seed).tolist() == naive(shingles, count, seed)


def test_more_shingles_than_a_block():
    values = numbers(70_000)
    whole = signature(values, 20, 1)
    assert (whole == np.minimum(signature(values[:1700], 20, 1), signature(values[1700:], 20, 1))).all()
    assert (whole == signature(values[::-1], 20, 1)).all()
    assert (whole != signature(values, 20, 2)).all()


def test_one_shingle_fills_the_largest_signature():
    found = signature(numbers(1), 32_768, 1)
    assert len(set(found.tolist())) == 32_768
    with pytest.raises(UserError, match="32768, not 32769"):
        MinHashDedup(bands=32_769, rows=1)


def test_keys_of_documents_without_words():
    rows, keys = MinHashDedup().keys([document(t) for t in ("", "two words", "!!!", "Two, words", " \n", "\0")])
    assert rows.tolist() == [1, 3]
    assert keys.shape == (2, 14, 1)
    assert (keys[0] == keys[1]).all()
    assert MinHashDedup().keys([])[1].shape == (0, 14, 1)
    assert isinstance(MinHashDedup(), CorpusStage)


def test_keys_do_not_depend_on_the_batch(warc):
    documents = [document(warc.prose(number)) for number in range(6)]
    _, together = MinHashDedup().keys(documents)
    apart = [MinHashDedup().keys([one])[1] for one in documents]
    assert (together == np.concatenate(apart)).all()


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"rows": -1}, {"ngram": 2.0}, {"hash_ranges": 0}])
def test_wrong_numbers_are_refused_at_once(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        MinHashDedup(**wrong)


@pytest.mark.parametrize("shingles", [12, 100, 3000])
@pytest.mark.parametrize(("bands", "rows", "pairs"), [(14, 8, 400), (450, 20, 60)])
def test_pairs_meet_as_often_as_the_formula_says(shingles, bands, rows, pairs):
    """1 - (1 - s^rows)^bands within 4 standard errors, for documents shorter and longer than the signature."""
    stage = MinHashDedup(bands=bands, rows=rows)
    for wanted in (0.5, 0.7, 0.8, 0.9, 1.0):
        shared = round(shingles * wanted)  # |A and B| of |A or B| = shingles
        rest = (shingles - shared) // 2
        similarity = shared / (shared + 2 * rest)
        met = 0
        for pair in range(pairs):
            values = numbers(shingles, 1 + 10_000 * pair)
            one, other = values[: shared + rest], np.concatenate([values[:shared], values[shared + rest :][:rest]])
            met += bool((stage.band_keys(one) == stage.band_keys(other)).any())
        expected = 1 - (1 - similarity**rows) ** bands
        error = 4 * np.sqrt(expected * (1 - expected) / pairs)
        assert abs(met / pairs - expected) <= error + 1 / pairs, (similarity, met / pairs, expected)
