"""Both methods against a dictionary of windows: random, periodic, empty and huge-unit corpora."""

import itertools
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.document import Document
from beam_pipelines.web.substring import sequences, suffix_array, windows
from beam_pipelines.web.substring.repeats import PLACE, UNIT_BITS, read_repeats, whole_windows
from beam_pipelines.web.substring.sequences import SequenceWriter, read_index, read_segments
from beam_pipelines.web.substring.spans import GatherSpans, merge_windows, read_spans
from t5x_style.errors import UserError

Corpus = list[list[list[str]]]  # units of documents of words


def document(words: list[str], name: str = "x") -> Document:
    return Document(name, " ".join(words), "web", "", "", "en", 1.0, "{}")


def write_keys(folder: Path, corpus: Corpus) -> list[Unit]:
    units = []
    for index, unit in enumerate(corpus):
        with open(folder / f"u{index}.keys", "wb") as file:
            writer = SequenceWriter(file, lambda document: document.text.split(" ") if document.text else [])
            for row, words in enumerate(unit):
                writer.add(document(words, f"{index}-{row}"))
            writer.close()
        units.append(Unit(f"u{index}", "", {"index": index}))
    return units


def by_suffix_array(folder: Path, units: list[Unit], length: int, keep: str) -> list[str]:
    find = suffix_array.FindBySuffixArray(str(folder), str(folder), [unit.name for unit in units], length, keep)
    find(Unit("array", ""))
    return [str(folder / "array.repeats")]


def by_windows(folder: Path, units: list[Unit], length: int, keep: str, ranges: int = 3) -> list[str]:
    parts = [Unit(f"{part:05d}", "") for part in range(ranges)]
    emit = windows.EmitWindows(str(folder), length, ranges)
    blocks = defaultdict(list)
    for unit in reversed(units):
        for part, block in emit(unit, frozenset(range(ranges))):
            blocks[part].append(block)
    reduce = windows.FindByWindows(str(folder), len(units), length, keep)
    for part, unit in enumerate(parts):
        reduce(unit, sorted(blocks[part], key=lambda block: block[0]))
    return [str(folder / f"{part.name}.repeats") for part in parts]


METHODS = {"suffix_array": by_suffix_array, "windows": by_windows}


def naive(corpus: Corpus, length: int, keep: str) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """(unit, row, place) of every repeat -> the first equal window, from a dictionary of tuples."""
    seen = defaultdict(list)
    for index, unit in enumerate(corpus):
        for row, words in enumerate(unit):
            for place in range(len(words) - length + 1):
                seen[tuple(words[place : place + length])].append((index, row, place))
    repeats = {}
    for places in seen.values():
        first = places[0]
        for place in places:
            overlaps = place[:2] == first[:2] and place[2] - first[2] < length
            if len(places) > 1 if keep == "none" else not overlaps:
                repeats[place] = first
    return repeats


def found(files: list[str], corpus: Corpus) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """The repeats in files, as `naive` gives them."""
    starts = [np.cumsum([0, *(len(words) for words in unit)]) for unit in corpus]

    def where(window: int) -> tuple[int, int, int]:
        unit, place = window >> 32, window & int(PLACE)
        row = int(np.searchsorted(starts[unit][1:], place, side="right"))
        return unit, row, place - int(starts[unit][row])

    result = {}
    for path in files:
        for unit in range(len(corpus)):
            repeats = read_repeats(path, unit, len(corpus))
            assert (repeats["window"] >> UNIT_BITS == unit).all()
            assert (np.diff(repeats["window"].astype(np.int64)) > 0).all()
            for window, copy in repeats.tolist():
                assert where(window) not in result
                result[where(window)] = where(copy)
    return result


WORDS = st.lists(st.sampled_from("ab"), max_size=14)
CORPUS = st.lists(st.lists(WORDS, max_size=4), min_size=1, max_size=3)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=80, deadline=None)
@given(corpus=CORPUS, length=st.integers(1, 6), keep=st.sampled_from(["first", "none"]), tiny=st.booleans())
@example(corpus=[[list("aaaaaaa")]], length=3, keep="first", tiny=False)
@example(corpus=[[list("ab"), list("c")], [list("abc")]], length=3, keep="none", tiny=False)
@example(corpus=[[[]], [], [[], list("abc"), []], [list("abc")]], length=3, keep="first", tiny=True)
def test_repeats_are_those_of_a_dictionary_of_windows(method, corpus, length, keep, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    with pytest.MonkeyPatch.context() as patch:
        if tiny:  # segments of one document, chunks of two suffixes
            patch.setattr(sequences, "SEGMENT_SYMBOLS", 1)
            patch.setattr(suffix_array, "_CHUNK", 2)
        units = write_keys(folder, corpus)
        files = METHODS[method](folder, units, length, keep)
    assert found(files, corpus) == naive(corpus, length, keep)


def natural(seed: int, units: int, documents: int) -> Corpus:
    """Documents with planted copies of each other's spans, across and within documents, and periodic ones."""
    rng = random.Random(seed)
    vocabulary = [f"w{rng.randrange(400)}" for _ in range(600)] + [f"字{n}" for n in range(50)] + ["\ud800", "\0", "é"]
    corpus, made = [], []
    for _ in range(units):
        unit = []
        for _ in range(documents):
            words = [rng.choice(vocabulary) for _ in range(rng.randrange(200))]
            for _ in range(rng.randrange(4)):
                source = rng.choice(made) if made and rng.random() < 0.7 else words
                start, at = rng.randrange(len(source) + 1), rng.randrange(len(words) + 1)
                words[at:at] = source[start : start + rng.choice([49, 50, 51, 90])]
            if rng.random() < 0.15:
                period = [rng.choice(vocabulary) for _ in range(rng.randrange(1, 60))]
                words += (period * 200)[: rng.randrange(200)]
            unit.append(words)
            made.append(words)
        corpus.append(unit)
    return corpus


@pytest.mark.parametrize("keep", ["first", "none"])
@pytest.mark.parametrize("length", [1, 2, 50, 64])
def test_both_methods_on_planted_copies(keep, length, tmp_path):
    corpus = natural(seed=length, units=3, documents=25)
    expected = naive(corpus, length, keep)
    units = write_keys(tmp_path, corpus)
    assert expected
    for method in METHODS.values():
        assert found(method(tmp_path, units, length, keep), corpus) == expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("period", [1, 2, 49, 50, 51])
def test_periodic_texts(method, period, tmp_path):
    """Here every window equals those a period away: a hash that is a sum over the text, or a sort that compares whole
    suffixes, would fail or take for ever."""
    words = [f"w{number % period}" for number in range(20_000)]
    corpus = [[words[:300]], [words, words[:49]]]
    units = write_keys(tmp_path, corpus)
    assert found(METHODS[method](tmp_path, units, 50, "first"), corpus) == naive(corpus, 50, "first")


def spans(folder: Path, units: list[Unit], files: list[str], length: int) -> list[dict]:
    names = [unit.name for unit in units]
    gather = GatherSpans(str(folder), str(folder), files, names, length, copies=True)
    for unit in units:
        gather(unit)
    return [dict(read_spans(str(folder), index)) for index in range(len(units))]


@settings(max_examples=40, deadline=None)
@given(corpus=CORPUS, length=st.integers(1, 5), keep=st.sampled_from(["first", "none"]))
def test_spans_are_the_union_of_windows(corpus, length, keep, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    units = write_keys(folder, corpus)
    expected = defaultdict(set)
    repeats = naive(corpus, length, keep)
    for unit, row, place in repeats:
        expected[unit, row].update(range(place, place + length))
    results = [spans(folder, units, method(folder, units, length, keep), length) for method in METHODS.values()]
    assert results[0] == results[1]
    cut = {}
    for unit, rows in enumerate(results[0]):
        for row, found_spans in rows.items():
            for before, after in itertools.pairwise(found_spans):
                assert before.stop < after.start
            cut[unit, row] = {place for span in found_spans for place in range(span.start, span.stop)}
            for span in found_spans:
                first = repeats[unit, row, span.start]
                assert span.copy == f"{first[0]}-{first[1]}"
    assert cut == expected


def test_a_word_survives_every_cut():
    """keep="first": whatever is cut stands, with the 49 words around it, in what is left, or a chain of copies leads
    there; so nothing is lost from the corpus but repetition."""
    corpus = natural(seed=7, units=2, documents=40)
    repeats = naive(corpus, 50, "first")
    source = {}
    for (unit, row, place), first in repeats.items():
        for offset in range(50):
            source.setdefault((unit, row, place + offset), (*first[:2], first[2] + offset))
    for at in source:
        word, place = corpus[at[0]][at[1]][at[2]], at
        while place in source:
            assert source[place] < place
            place = source[place]
        assert corpus[place[0]][place[1]][place[2]] == word


def test_merge_windows_example():
    merged, first = merge_windows(np.array([0, 1, 5, 9]), np.array([8, 5]), 3)
    assert merged[["row", "start", "stop"]].tolist() == [(0, 0, 4), (0, 5, 8), (1, 1, 4)]
    assert first.tolist() == [0, 2, 3]
    touching, _ = merge_windows(np.array([0, 3, 6]), np.array([6, 3]), 3)
    assert touching[["row", "start", "stop"]].tolist() == [(0, 0, 6), (1, 0, 3)]


def test_whole_windows_example():
    assert whole_windows(np.array([2, 4]), 3).tolist() == [False, False, True, True, False, False]
    assert whole_windows(np.array([0, 3, 0]), 3).tolist() == [True, False, False]
    assert whole_windows(np.zeros(0, np.int64), 3).tolist() == []


@pytest.mark.parametrize("distinct", [1, 2, 256, 257, 65_536, 65_537])
def test_suffix_array_of_any_width(distinct):
    """One to three bytes a symbol, at the borders."""
    rng = np.random.default_rng(distinct)
    symbols = rng.integers(0, distinct, 300).astype(np.uint32)
    symbols[::7] = distinct - 1
    expected = sorted(range(300), key=lambda start: symbols[start:].tolist())
    assert suffix_array.suffix_array(symbols).tolist() == expected
    large = symbols + np.uint32(2**24)  # four bytes
    assert suffix_array.suffix_array(large).tolist() == expected


def test_rolled_hashes_depend_on_place_and_order():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 2**64, 400, dtype=np.uint64)[rng.integers(0, 3, 5000)]
    for length in (1, 2, 3, 49, 50, 64):
        hashes = windows.rolled(words, length, seed=0)
        assert len(hashes) == len(words) - length + 1
        same = defaultdict(set)
        for start, value in enumerate(hashes.tolist()):
            same[words[start : start + length].tobytes()].add(value)
        assert all(len(values) == 1 for values in same.values())
        assert len({value for values in same.values() for value in values}) == len(same)
    assert len(windows.rolled(words[:49], 50, seed=0)) == 0


def test_windows_with_equal_64_bits_are_told_apart():
    """The second half of the hash decides."""

    def block(*rows: tuple[int, int, int]) -> np.ndarray:
        return np.array([(high, low << 32 | place) for high, low, place in rows], np.uint64).reshape(-1, 2)

    blocks = [(0, block((5, 1, 0), (5, 2, 70))), (3, block((5, 2, 10), (5, 3, 200), (6, 1, 300)))]
    assert windows.repeats_of(blocks, 50, "first").tolist() == [(3 << 32 | 10, 70)]
    assert windows.repeats_of(blocks, 50, "none").tolist() == [(70, 70), (3 << 32 | 10, 70)]


@pytest.mark.parametrize("loss", ["last segment", "middle segment", "source", "doubled"])
def test_a_lost_block_is_found_out(loss, tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "SEGMENT_SYMBOLS", 1)
    units = write_keys(tmp_path, [[["a"], ["b"], ["c"]], [], [["a"]]])
    emit = windows.EmitWindows(str(tmp_path), 1, 1)
    blocks = [block for unit in units for _, block in emit(unit, frozenset([0]))]
    reduce = windows.FindByWindows(str(tmp_path), 3, 1, "first")
    reduce(Unit("p", ""), blocks)
    last = {"last segment": 3, "middle segment": 1, "source": 4}
    broken = [*blocks[:1], *blocks] if loss == "doubled" else [b for i, b in enumerate(blocks) if i != last[loss]]
    with pytest.raises(RuntimeError, match="shuffle part p"):
        reduce(Unit("p", ""), broken)


def test_key_files(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "SEGMENT_DISTINCT", 3)
    corpus = [[["a", "b"], [], ["c", "a"], ["é", "\ud800", "\0"], []], []]
    write_keys(tmp_path, corpus)
    index = read_index(str(tmp_path / "u0.keys"))
    assert index.lengths.tolist() == [2, 0, 2, 3, 0]
    assert index.ids.tolist() == [b"0-0", b"0-1", b"0-2", b"0-3", b"0-4"]
    segments = list(read_segments(str(tmp_path / "u0.keys")))
    assert [segment.lengths.tolist() for segment in segments] == [[2, 0, 2], [3, 0], []]
    assert [segment.last for segment in segments] == [False, False, True]
    assert [len(segment.hashes) for segment in segments] == [3, 3, 0]
    assert segments[0].symbols.tolist() == [0, 1, 2, 0]
    (empty,) = read_segments(str(tmp_path / "u1.keys"))
    assert (len(empty.lengths), len(empty.symbols), empty.last) == (0, 0, True)


@pytest.mark.parametrize(
    "missing", [(0, 24), (0, 8), (24, 40), (60, 64), (-1, None), (-8, None), (-44, None), (0, None)]
)
def test_a_damaged_key_file_is_no_shorter_corpus(missing, tmp_path):
    write_keys(tmp_path, [[["a", "b"], ["c"]]])
    path = tmp_path / "u0.keys"
    content = bytearray(path.read_bytes())
    del content[slice(*missing)]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"u0\.keys: damaged"):
        list(read_segments(str(path)))


def test_too_many_words_in_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "MAX_SYMBOLS", 3)
    write_keys(tmp_path, [[["a", "b"], ["c"]]])
    with pytest.raises(UserError, match="split it"):
        write_keys(tmp_path, [[["a", "b"], ["c", "d"]]])
