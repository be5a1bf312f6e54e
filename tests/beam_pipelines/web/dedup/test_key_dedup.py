"""Keys, blocks and edges against quadratic definitions; exact deduplication."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.dedup import key_dedup as dedup
from beam_pipelines.web.dedup.clusters import components
from beam_pipelines.web.dedup.exact_dedup import ExactDedup, normalised
from beam_pipelines.web.dedup.hashing import combine, constants, mix, range_of, text_hashes
from beam_pipelines.web.dedup.key_edges import (
    EmitKeys,
    WriteEdges,
    equal_key_edges,
    join_blocks,
    pack_block,
    read_edges,
    unpack_block,
    write_keys,
)
from beam_pipelines.web.document import Document, Outcome
from t5x_style.errors import UserError

PART = Unit("00000", "f")


def document(text, url=""):
    return Document("0" * 32, text, "", url, "", "", 0.0, "{}")


def test_worked_example_of_edges():
    keys = np.array([[7], [7], [8]], np.uint64)
    assert equal_key_edges(keys, np.array([0, 2**32, 5], np.uint64)).tolist() == [[0, 2**32]]
    assert equal_key_edges(np.zeros((0, 1), np.uint64), np.zeros(0, np.uint64)).shape == (0, 2)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=8), max_size=5))
def test_dedup_equals_the_naive_one(units):
    """Keys of two words; the first of equal keys stays."""
    blocks, seen, expected = [], {}, {}
    for index, keys in enumerate(units):
        for row, key in enumerate(keys):
            number = index << 32 | row
            if key in seen:
                expected[number] = seen[key]
            else:
                seen[key] = number
        rows = np.array([row for _, row in sorted((key, row) for row, key in enumerate(keys))], np.int64)
        blocks.append((index, pack_block(np.array(sorted(keys), np.uint64).reshape(-1, 2), rows)))
    found = components(equal_key_edges(*join_blocks(PART, blocks, 2, len(units))))
    pairs = zip(found.documents.tolist(), found.firsts.tolist(), strict=True)
    assert {one: first for one, first in pairs if one != first} == expected


def test_blocks_hold_every_bit():
    keys = mix(np.arange(6, dtype=np.uint64)).reshape(3, 2)
    rows = np.array([0, 2**31, 2**32 - 1])
    block = pack_block(keys, rows)
    assert len(block) == 3 * (16 + 4)
    there, back = unpack_block(block, 2)
    assert there.tolist() == keys.tolist()
    assert back.tolist() == rows.tolist()
    assert unpack_block(b"", 1)[0].shape == (0, 1)


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
        parts = [unpack_block(b, 2) for part, (index, b) in found if part // ranges == band and index == 4]
        joined = [(*key, row) for keys, rows in parts for key, row in zip(keys.tolist(), rows.tolist(), strict=True)]
        assert joined == sorted(joined)
        assert set(joined) == {(*k, r) for k, r in zip(keys[:, band].tolist(), rows.tolist(), strict=True)}
    wanted = frozenset([2 * ranges - 1])
    assert list(emit(Unit("u", "f", {"index": 4}), wanted)) == [item for item in found if item[0] in wanted]


def test_equal_leading_bits_meet_in_one_part(tmp_path):
    """16 bits decide, 1000 ranges: two keys that agree in them are not torn apart by what follows."""
    first = np.arange(200, dtype=np.uint64) << np.uint64(48)
    keys = np.concatenate([first, first | np.uint64(2**48 - 1)])[:, None, None]
    with storage.atomic_writer(str(tmp_path / "u.keys")) as file:
        write_keys(file, np.arange(400), keys)
    emit = EmitKeys(str(tmp_path), 1, 1, 1000, key_bits=16)
    parts = [unpack_block(block, 1)[0] for _, (_, block) in emit(Unit("u", "f", {"index": 0}), frozenset(range(1000)))]
    heads = [set((part[:, 0] >> np.uint64(48)).tolist()) for part in parts if len(part)]
    assert sum(map(len, heads)) == 200


def test_a_lost_block_is_an_error(tmp_path):
    write = WriteEdges(str(tmp_path), 1, sources=3)
    with pytest.raises(RuntimeError, match="2 blocks of 3"):
        write(PART, [(0, b""), (2, b"")])
    with pytest.raises(RuntimeError, match="4 blocks of 3"):
        write(PART, [(0, b""), (1, b""), (1, b""), (2, b"")])
    write(PART, [(0, b""), (1, b""), (2, b"")])
    assert read_edges(str(tmp_path), "00000").shape == (0, 2)
    assert storage.read_json(str(tmp_path / "unit-00000.json")) == {"edges": 0, "documents": 0, "fingerprint": "f"}


def test_exact_keys():
    rows, keys = ExactDedup().keys([document(t) for t in ("a", "b", "a", "", "ä", "A ", "\ud800")])
    assert rows.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert keys.shape == (7, 1, 2)
    assert (keys[0] == keys[2]).all()
    assert len({tuple(key[0]) for key in keys.tolist()}) == 6
    assert isinstance(ExactDedup(), CorpusStage)
    assert ExactDedup().keys([])[1].shape == (0, 1, 2)


def test_normalised_text():
    assert normalised("A  b\n\nC ") == "a b c"
    texts = ["A  b\n\nC ", "a b c", "ab c", "a b c.", " \n", ""]
    _, keys = ExactDedup(normalised=True).keys([document(text) for text in texts])
    assert [tuple(key[0]) for key in keys.tolist()][:2] == [tuple(keys[0, 0].tolist())] * 2
    assert len({tuple(key[0]) for key in keys.tolist()}) == 4


def test_what_is_found_is_applied():
    stage = ExactDedup()
    assert stage.apply_finding(document("a"), None) == Outcome(document("a"))
    outcome = stage.apply_finding(document("a"), "f" * 32)
    assert outcome.verdict.reason == "duplicate"
    assert outcome.document.metadata == '{"duplicate_of": "' + "f" * 32 + '"}'


@pytest.mark.parametrize("wrong", [{"hash_ranges": 0}, {"hash_ranges": True}, {"max_edges_in_memory": 0.5}])
def test_wrong_numbers_are_refused_at_once(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        ExactDedup(**wrong)


def test_constants_never_change():
    """They are part of what files on disk mean; the numbers are SplitMix64's published ones for seed 1234567."""
    assert constants(2, 1234567).tolist() == [6457827717110365317, 3203168211198807973]
    assert text_hashes(["", "a"])[0].tolist() == [0x99AA06D3014798D8, 0x6001C324468D497F]  # XXH3's published value


def test_combined_columns():
    rows = np.array([[1, 2], [2, 1], [1, 2], [2**63, 2**63], [0, 0]], np.uint64)
    found = combine(rows).tolist()
    assert found[0] == found[2]
    assert len(set(found)) == 4
    assert combine(np.zeros((0, 3, 2), np.uint64)).shape == (0, 3)


def test_ranges():
    assert range_of(np.array([0, 2**63, 2**64 - 1], np.uint64), 4).tolist() == [0, 2, 3]
    assert range_of(np.array([2**62 - 1, 2**62], np.uint64), 4).tolist() == [0, 1]


def test_key_files_are_byte_identical():
    def content():
        file = io.BytesIO()
        write_keys(file, np.arange(3), np.zeros((3, 1, 2), np.uint64))
        return file.getvalue()

    assert content() == content()


def test_long_documents_do_not_pile_up_in_a_batch(monkeypatch):
    """A thousand pages of 16 MB would not fit; the keys are those of one batch."""
    monkeypatch.setattr(dedup, "KEY_BATCH_CHARACTERS", 100)
    sizes = []

    class Watched(ExactDedup):
        def keys(self, documents):
            sizes.append(sum(len(item.text) for item in documents))
            return super().keys(documents)

    items = [document(f"{number} " * 10) for number in range(50)]

    def key_file(stage):
        file = io.BytesIO()
        writer = stage.start(file)
        for item in items:
            writer.add(item)
        writer.close()
        return file.getvalue()

    in_pieces = key_file(Watched())
    assert max(sizes) < 150
    monkeypatch.setattr(dedup, "KEY_BATCH_CHARACTERS", 10**9)
    assert in_pieces == key_file(ExactDedup())
