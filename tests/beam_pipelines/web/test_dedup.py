"""Edges and clusters against quadratic definitions; keys of both deduplications."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines import storage
from beam_pipelines.units import Unit
from beam_pipelines.web.dedup import DedupStage, EmitKeys, WriteEdges, clusters, equal_key_edges, write_keys
from beam_pipelines.web.document import Document
from beam_pipelines.web.exact_dedup import ExactDedup
from beam_pipelines.web.hashing import combine, constants, mix
from beam_pipelines.web.minhash import MinHashDedup, shingles, signature
from beam_pipelines.web.words import normalised_words


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


def test_worked_example_of_edges():
    blocks = [np.array([[7, 0]], np.uint64), np.array([[7, 0], [8, 1]], np.uint64)]
    assert equal_key_edges(blocks).tolist() == [[0, 2**32]]
    assert equal_key_edges([]).shape == (0, 2)
    assert equal_key_edges([np.zeros((0, 2), np.uint64)]).shape == (0, 2)


def test_worked_example_of_clusters():
    dropped, keeper = clusters(np.array([[1, 2], [2, 5], [7, 9]], np.uint64))
    assert dropped.tolist() == [2, 5, 9]
    assert keeper.tolist() == [1, 1, 7]
    assert clusters(np.zeros((0, 2), np.uint64))[0].tolist() == []


def test_large_document_numbers_keep_their_bits():
    big = (2**31 + 5) << 32 | 2**32 - 1
    dropped, keeper = clusters(np.array([[3, big]], np.uint64))
    assert dropped.tolist() == [big]
    assert keeper.tolist() == [3]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), max_size=5), st.randoms())
def test_dedup_equals_the_naive_one_in_any_order(units, shuffler):
    """Keys of two words; the rows of a block arrive in any order; the first of equal keys stays."""
    blocks, seen, expected = [], {}, {}
    for index, keys in enumerate(units):
        rows = [[*key, row] for row, key in enumerate(keys)]
        for row, key in enumerate(keys):
            number = index << 32 | row
            if key in seen:
                expected[number] = seen[key]
            else:
                seen[key] = number
        shuffler.shuffle(rows)
        blocks.append(np.array(rows, np.uint64).reshape(-1, 3))
    dropped, keeper = clusters(equal_key_edges(blocks))
    assert dict(zip(dropped.tolist(), keeper.tolist(), strict=True)) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda e: e[0] != e[1]), max_size=20))
def test_clusters_equal_the_naive_ones(pairs):
    label = {node: node for pair in pairs for node in pair}
    for _ in label:
        for one, other in pairs:
            label[one] = label[other] = min(label[one], label[other])
    dropped, keeper = clusters(np.array(pairs, np.uint64).reshape(-1, 2))
    assert dict(zip(dropped.tolist(), keeper.tolist(), strict=True)) == {n: m for n, m in label.items() if n != m}


@pytest.mark.parametrize("ranges", [1, 3, 7])
def test_parts_hold_every_key_once(tmp_path, ranges):
    keys = mix(np.arange(60, dtype=np.uint64)).reshape(15, 2, 2)
    rows = np.arange(15) * 2
    with storage.atomic_writer(str(tmp_path / "u.keys")) as file:
        write_keys(file, rows, keys)
    emit = EmitKeys(str(tmp_path), 2, 2, ranges)
    everything = frozenset(range(2 * ranges))
    found = list(emit(Unit("u", "f", {"index": 4}), everything))
    assert [part for part, _ in found] == sorted(everything)
    for band in range(2):
        parts = [np.frombuffer(b, np.uint64).reshape(-1, 3) for p, (i, b) in found if p // ranges == band and i == 4]
        joined = np.concatenate(parts)
        assert sorted(map(tuple, joined.tolist())) == joined.tolist() or joined.tolist() == sorted(joined.tolist())
        assert {tuple(r) for r in joined.tolist()} == {
            (*k, r) for k, r in zip(keys[:, band].tolist(), rows, strict=True)
        }
    wanted = frozenset([2 * ranges - 1])
    assert list(emit(Unit("u", "f", {"index": 4}), wanted)) == [item for item in found if item[0] in wanted]


def test_a_lost_block_is_an_error(tmp_path):
    write = WriteEdges(str(tmp_path), 1, sources=3)
    with pytest.raises(RuntimeError, match="2 blocks of 3"):
        write(Unit("00000", "f"), [(0, b""), (2, b"")])
    with pytest.raises(RuntimeError, match="4 blocks of 3"):
        write(Unit("00000", "f"), [(0, b""), (1, b""), (1, b""), (2, b"")])


def test_exact_keys():
    rows, keys = ExactDedup().keys([document(t) for t in ("a", "b", "a", "", "ä")])
    assert rows.tolist() == [0, 1, 2, 3, 4]
    assert keys.shape == (5, 1, 2)
    assert (keys[0] == keys[2]).all()
    assert len({tuple(key[0]) for key in keys.tolist()}) == 4
    assert isinstance(ExactDedup(), DedupStage)
    assert ExactDedup().keys([])[1].shape == (0, 1, 2)


def test_shingles():
    words = normalised_words("A b c d e f")
    assert len(shingles(words, 5)) == 2
    assert shingles(words, 5)[1] == shingles(words[1:], 5)[0]  # a shingle does not depend on what stands before it
    assert len(shingles(words[:2], 5)) == 1
    assert shingles(words[:2], 5) != shingles(words[1::-1], 5)
    assert len(shingles([], 5)) == 0


def test_signature_is_the_minimum_of_each_function():
    values = mix(np.arange(3000, dtype=np.uint64)).astype(np.uint32)
    whole = signature(values, 20, 1)
    assert (whole == np.minimum(signature(values[:1700], 20, 1), signature(values[1700:], 20, 1))).all()
    assert (whole == signature(values[::-1], 20, 1)).all()
    assert (signature(values[:1], 20, 1) != signature(values[:1], 20, 2)).any()


def test_constants_never_change():
    """They are part of what files on disk mean; the numbers are SplitMix64's published ones for seed 1234567."""
    assert constants(2, 1234567).tolist() == [6457827717110365317, 3203168211198807973]
    assert combine(np.array([[1, 2], [2, 1]])).tolist() != combine(np.array([[2, 1], [1, 2]])).tolist()


def test_minhash_rows_without_words_have_no_key():
    rows, keys = MinHashDedup().keys([document(""), document("two words"), document("!!!"), document("Two, words")])
    assert rows.tolist() == [1, 3]
    assert keys.shape == (2, 14, 1)
    assert (keys[0] == keys[1]).all()
    assert MinHashDedup().keys([])[1].shape == (0, 14, 1)


def test_pairs_meet_as_often_as_the_formula_says():
    """1 - (1 - s^rows)^bands at five similarities; 200 pairs each, so 4 standard errors are at most .14."""
    stage, pairs = MinHashDedup(bands=14, rows=8), 200
    for similarity in (0.5, 0.7, 0.8, 0.9, 1.0):
        met = 0
        for pair in range(pairs):
            shared = round(400 * similarity)  # |A and B| of |A or B| = 400 shingles
            numbers = mix(np.arange(400, dtype=np.uint64) + np.uint64(1000 * pair + 1)).astype(np.uint32)
            rest = (400 - shared) // 2
            one, other = numbers[: shared + rest], np.concatenate([numbers[:shared], numbers[shared + rest :]])
            bands = [combine(signature(side, 112, 1).reshape(14, 8)) for side in (one, other)]
            met += bool((bands[0] == bands[1]).any())
        expected = 1 - (1 - similarity**stage.rows) ** stage.bands
        error = 4 * np.sqrt(expected * (1 - expected) / pairs) + 0.01
        assert abs(met / pairs - expected) < error, (similarity, met / pairs, expected)


def test_keys_do_not_depend_on_the_batch(warc):
    documents = [document(warc.prose(number)) for number in range(6)]
    _, together = MinHashDedup().keys(documents)
    apart = [MinHashDedup().keys([one])[1] for one in documents]
    assert (together == np.concatenate(apart)).all()


def test_key_files_are_byte_identical():
    def content():
        file = io.BytesIO()
        write_keys(file, np.arange(3), np.zeros((3, 1, 2), np.uint64))
        return file.getvalue()

    assert content() == content()
