"""SimHash against naive definitions: bits, block permutations, all pairs within the distance."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.dedup.clusters import components
from beam_pipelines.web.dedup.hashing import mix
from beam_pipelines.web.dedup.key_edges import EmitKeys, read_edges, write_keys
from beam_pipelines.web.dedup.shingles import shingle_hashes
from beam_pipelines.web.dedup.simhash import NearEdges, SimHashDedup, blocks_in_front, near_pairs, simhash
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "c", "字", "\ud800"]), min_size=1, max_size=30), st.integers(1, 4))
def test_bits_are_the_majoritys(words, ngram):
    hashes = [int(value) for value in shingle_hashes(words, ngram)]
    expected = sum(1 << bit for bit in range(64) if 2 * sum(value >> bit & 1 for value in hashes) > len(hashes))
    assert simhash(words, ngram) == expected


def test_long_texts_are_summed_in_parts():
    words = [str(number % 977) for number in range(140_000)]
    bits = [2 * sum(int(v) >> b & 1 for v in shingle_hashes(words, 2)) > 139_999 for b in (0, 31, 63)]
    assert [bool(simhash(words, 2) >> b & 1) for b in (0, 31, 63)] == bits


def test_worked_permutation():
    value = np.array([0x0123456789ABCDEF], np.uint64)
    assert hex(int(blocks_in_front(value, (0,), 4)[0])) == "0xcdef89ab45670123"
    assert blocks_in_front(value, (0,), 1).tolist() == value.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 9), st.data())
def test_permutations_keep_distances(one, other, blocks, data):
    front = data.draw(st.lists(st.integers(0, blocks - 1), unique=True, max_size=blocks))
    moved = blocks_in_front(np.array([one, other], np.uint64), front, blocks).tolist()
    assert (moved[0] ^ moved[1]).bit_count() == (one ^ other).bit_count()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(1, 64), st.integers(0, 5), st.data())
def test_near_pairs_equal_the_naive_ones(seeds, key_bits, distance, data):
    flips = st.lists(st.integers(0, 63), max_size=7)
    hashes = sorted({seed ^ sum({1 << bit for bit in data.draw(flips)}) for seed in seeds for _ in range(3)})
    found = [
        pair
        for one, other in near_pairs(np.array(hashes, np.uint64), key_bits, distance)
        for pair in zip(one.tolist(), other.tolist(), strict=True)
    ]
    assert sorted(found) == [
        (i, j)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if hashes[i] >> 64 - key_bits == hashes[j] >> 64 - key_bits and (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=5)), min_size=1, max_size=14),
    st.sampled_from([(0, 1), (1, 2), (3, 4), (3, 5), (2, 7)]),
    st.integers(1, 3),
)
def test_clusters_are_those_of_all_pairs(tmp_path_factory, made, scheme, ranges):
    """Through key files, the parts of the shuffle and the edges, as against comparing every two hashes."""
    folder, (distance, blocks) = tmp_path_factory.mktemp("simhash"), scheme
    hashes = [int(mix(np.array([seed], np.uint64))[0]) ^ sum(1 << bit for bit in bits) for seed, bits in made]
    stage = SimHashDedup(distance=distance, blocks=blocks, hash_ranges=ranges)
    units = np.array_split(np.array(hashes, np.uint64), 2)
    assert stage.keys([document("a")])[1].shape == (1, stage.bands, 1)
    emitted = {}
    for index, own in enumerate(units):
        fronts = combinations(range(blocks), blocks - distance)
        keys = np.stack([blocks_in_front(own, front, blocks) for front in fronts], axis=1)[..., None]
        with open(folder / f"{index}.keys", "wb") as file:
            write_keys(file, np.arange(len(own)), keys)
        emit = EmitKeys(str(folder), stage.bands, 1, ranges, stage.key_bits)
        for part, block in emit(Unit(str(index), "f", {"index": index}), frozenset(range(stage.bands * ranges))):
            emitted.setdefault(part, []).append(block)
    for part, found in emitted.items():
        NearEdges(str(folder), 1, 2, stage.key_bits, distance)(Unit(f"{part}", "f"), found)
    edges = np.concatenate([read_edges(str(folder), str(part)) for part in emitted])
    number = [index << 32 | row for index, own in enumerate(units) for row in range(len(own))]
    pairs = [
        (number[i], number[j])
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    expected = components(np.array(pairs, np.uint64).reshape(-1, 2))
    found = components(edges)
    assert found.documents.tolist() == expected.documents.tolist()
    assert found.firsts.tolist() == expected.firsts.tolist()


def test_keys(warc):
    texts = ["", warc.prose(1), "!!!", warc.prose(1).upper(), warc.distinct_prose(2)]
    rows, keys = SimHashDedup().keys([document(text) for text in texts])
    assert rows.tolist() == [1, 3, 4]
    assert keys.shape == (3, 4, 1)
    assert (keys[0] == keys[1]).all()
    assert (keys[0] != keys[2]).all()
    assert SimHashDedup().keys([])[1].shape == (0, 4, 1)
    assert isinstance(SimHashDedup(), CorpusStage)


@pytest.mark.parametrize(("blocks", "tables", "bits"), [(4, 4, 16), (5, 10, 25), (6, 20, 31)])
def test_tables(blocks, tables, bits):
    assert (SimHashDedup(blocks=blocks).bands, SimHashDedup(blocks=blocks).key_bits) == (tables, bits)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"blocks": 3}, "more than distance"),
        ({"blocks": 65}, "at most 64"),
        ({"distance": -1}, "distance"),
        ({"distance": 8, "blocks": 20}, "125970 tables"),
        ({"ngram": 0}, "ngram"),
    ],
)
def test_wrong_numbers_are_refused_at_once(wrong, what):
    with pytest.raises(UserError, match=what):
        SimHashDedup(**wrong)
