"""Clusters: in memory, by rounds of jobs, and what is written about them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.files import storage
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.corpus_stage import Corpus
from beam_pipelines.web.dedup.cluster_rounds import Rounds, large_star, small_star
from beam_pipelines.web.dedup.clusters import CLUSTERS, Edges, components, find_clusters, join_in_memory, read_drops
from beam_pipelines.web.dedup.key_edges import EARLIER, write_edges
from beam_pipelines.web.dedup.minhash import MinHashDedup
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.pipeline import clean
from beam_pipelines.web.recipe import CleanWeb

EDGES = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)).filter(lambda e: e[0] != e[1]), max_size=40)


class Here:
    """A runner without Beam: every call at once, blocks in the wrong order."""

    def run_units(self, label, units, function, *_):
        for unit in units:
            function(unit)

    def run_shuffle(self, label, sources, wanted, emit, reduce, *_):
        groups = {}
        assert len({source.name for source in sources}) == len(sources)
        for source in reversed(sources):
            for part, block in emit(source):
                groups.setdefault(part, []).append(block)
        assert sorted(groups) == sorted(wanted)
        for item in groups.items():
            reduce(item)


def corpus_in(folder, sizes):
    """Units with `sizes` documents each; ids say unit and row."""
    units = []
    for index, size in enumerate(sizes):
        ids = [f"{index:016x}{row:016x}" for row in range(size)]
        with storage.atomic_writer(f"{folder}/documents/u{index}.parquet") as file:
            pq.write_table(pa.table({"id": pa.array(ids, pa.string())}), file)
        units.append(Unit(f"u{index}", "f", {"index": index}))
    jobs = iter(range(100))

    def new_job():
        name = f"{next(jobs):02d}-test"
        return name, f"{folder}/work/{name}"

    return Corpus(units, "k", f"{folder}/keys", f"{folder}/documents", str(folder), Here(), new_job, {})


def number(unit, row):
    return unit << 32 | row


def naive(pairs):
    label = {node: node for pair in pairs for node in pair}
    for _ in label:
        for one, other in pairs:
            label[one] = label[other] = min(label[one], label[other])
    return label


def as_array(pairs):
    return np.array(sorted(map(sorted, pairs)), np.uint64).reshape(-1, 2)


def test_worked_example():
    found = components(np.array([[1, 2], [2, 5], [7, 9]], np.uint64))
    assert found.documents.tolist() == [1, 2, 5, 7, 9]
    assert found.firsts.tolist() == [1, 1, 1, 7, 7]
    assert components(np.zeros((0, 2), np.uint64)).documents.tolist() == []


def test_large_document_numbers_keep_their_bits():
    big = (2**31 + 5) << 32 | 2**32 - 1
    found = components(np.array([[3, big]], np.uint64))
    assert found.documents.tolist() == [3, big]
    assert found.firsts.tolist() == [3, 3]


@settings(max_examples=100, deadline=None)
@given(EDGES, st.integers(1, 50), st.integers(1, 50))
def test_in_memory_equals_the_naive_one_whatever_the_blocks(pairs, limit, size):
    edges = as_array(pairs)
    blocks = [edges[start : start + size] for start in range(0, len(edges), size)]
    found = join_in_memory(blocks, limit)
    assert dict(zip(found.documents.tolist(), found.firsts.tolist(), strict=True)) == naive(pairs)


def test_worked_stars():
    edges, changed = large_star(np.array([[5, 1], [5, 9]], np.uint64))
    assert (edges.tolist(), changed) == ([[1, 9]], 1)
    edges, changed = large_star(np.array([[1, 5], [1, 9], [9, 1]], np.uint64))
    assert (edges.tolist(), changed) == ([[1, 5], [1, 9]], 0)
    edges, changed = small_star(np.array([[5, 1], [5, 3]], np.uint64))
    assert (sorted(edges.tolist()), changed) == ([[1, 3], [1, 5]], 1)
    assert small_star(np.array([[5, 1], [6, 1]], np.uint64))[1] == 0
    for star in (large_star, small_star):
        assert star(np.zeros((0, 2), np.uint64))[0].shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(EDGES, st.sets(st.integers(30, 35), max_size=2), st.integers(1, 4), st.integers(1, 3))
def test_rounds_equal_memory(tmp_path_factory, pairs, earlier, ranges, files):
    """Random graphs over several units, in several files, with documents that an earlier run had."""
    folder = tmp_path_factory.mktemp("rounds")
    numbers = [number(node // 12, node % 12) for node in range(36)]
    edges = np.array(numbers, np.uint64)[as_array(pairs).astype(int)].reshape(-1, 2)
    edges = np.concatenate([edges, np.array([[EARLIER, numbers[node]] for node in earlier], np.uint64).reshape(-1, 2)])
    blocks = np.array_split(edges, files)
    for index, block in enumerate(blocks):
        write_edges(f"{folder}/edges", Unit(f"{index}", "f"), block, 0)
    corpus = corpus_in(folder, [])
    corpus = Corpus(**{**corpus.__dict__, "units": [Unit(f"u{i}", "f", {"index": i}) for i in range(3)]})
    labels, names = Rounds(corpus, "k", "test", f"{folder}/job", ranges).run(
        f"{folder}/edges", [f"{index}" for index in range(files)]
    )
    found = np.concatenate([np.load(f"{labels}/{name}.labels.npy") for name in names])
    expected = join_in_memory(blocks, 1000)
    assert found.tolist() == np.stack(expected, axis=1).tolist()


@pytest.mark.parametrize("limit", [299, 298, 150])
def test_a_long_chain(tmp_path, limit):
    """The worst graph for spreading labels: a path, its numbers out of order."""
    order = np.argsort(np.arange(300) * 7919 % 300)
    edges = as_array(zip(order[:-1].tolist(), order[1:].tolist(), strict=True))
    write_edges(f"{tmp_path}/edges", Unit("p", "f"), edges, 300)
    corpus = corpus_in(tmp_path, [300])
    found = find_clusters(corpus, "k", "chain", Edges(f"{tmp_path}/edges", ["p"], len(edges), 300), limit)
    assert found.ranges["u0"][:2] == (0, 299)
    assert set(read_drops(found.path, 0, 299).values()) == {"0" * 32}
    rounds = list((tmp_path / "work" / "00-test").glob("large-star-*"))
    assert bool(rounds) == (limit < 299)
    assert len(rounds) < 12


@pytest.fixture
def edges_of_three_units():
    """u0: rows 0 and 2 belong to u2's 1, u0's 1 to u2's 0; u2's 3 was there earlier; u1 has nothing."""
    return np.array(
        [
            [number(0, 0), number(0, 2)],
            [number(0, 2), number(2, 1)],
            [number(0, 1), number(2, 0)],
            [EARLIER, number(2, 3)],
        ],
        np.uint64,
    )


@pytest.mark.parametrize("limit", [1000, 1])
def test_what_is_written(tmp_path, limit, edges_of_three_units):
    corpus = corpus_in(tmp_path, [3, 2, 4])
    write_edges(f"{tmp_path}/edges", Unit("p", "f"), edges_of_three_units, 9)
    found = find_clusters(corpus, "k", "near", Edges(f"{tmp_path}/edges", ["p"], 4, 9), limit)
    assert {name: share[:2] for name, share in found.ranges.items()} == {"u0": (0, 1), "u1": (1, 1), "u2": (1, 4)}
    one, two = f"{0:016x}{0:016x}", f"{0:016x}{1:016x}"
    assert read_drops(found.path, 0, 1) == {2: one}
    assert read_drops(found.path, 1, 1) == {}
    assert read_drops(found.path, 1, 4) == {0: two, 1: one, 3: ""}
    table = pq.read_table(tmp_path / "clusters" / "near.parquet")
    assert table.schema.equals(CLUSTERS)
    rows = [tuple(row.values()) for row in table.to_pylist()]
    assert rows == [
        (one, one, "u0", True, 3),
        (two, two, "u0", True, 2),
        (f"{0:016x}{2:016x}", one, "u0", False, 3),
        (f"{2:016x}{0:016x}", two, "u2", False, 2),
        (f"{2:016x}{1:016x}", one, "u2", False, 3),
    ]


def test_both_ways_write_the_same_bytes(tmp_path, edges_of_three_units):
    files = []
    for limit in (1000, 1):
        folder = tmp_path / str(limit)
        write_edges(f"{folder}/edges", Unit("p", "f"), edges_of_three_units, 9)
        corpus = corpus_in(folder, [3, 2, 4])
        found = find_clusters(corpus, "k", "near", Edges(f"{folder}/edges", ["p"], 4, 9), limit)
        files.append([(folder / "clusters" / "near.parquet").read_bytes(), Path(found.path).read_bytes(), found.ranges])
    assert files[0] == files[1]


def test_a_units_digest_changes_only_with_its_own_drops(tmp_path):
    digests = []
    for name, pairs in (("a", [(0, 1)]), ("b", [(0, 1), (number(1, 0), number(1, 1))])):
        folder = tmp_path / name
        write_edges(f"{folder}/edges", Unit("p", "f"), as_array(pairs), 4)
        corpus = corpus_in(folder, [2, 2])
        found = find_clusters(corpus, "k", "near", Edges(f"{folder}/edges", ["p"], len(pairs), 4), 1000)
        digests.append([found.ranges[unit][2] for unit in ("u0", "u1")])
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


def test_no_edges_at_all(tmp_path):
    corpus = corpus_in(tmp_path, [2])
    write_edges(f"{tmp_path}/edges", Unit("p", "f"), np.zeros((0, 2), np.uint64), 2)
    found = find_clusters(corpus, "k", "near", Edges(f"{tmp_path}/edges", ["p"], 0, 2), 1000)
    assert found.ranges["u0"][:2] == (0, 0)
    assert pq.read_table(tmp_path / "clusters" / "near.parquet").num_rows == 0


@pytest.mark.parametrize(("limit", "workers"), [(4, 1), (50_000_000, 2)])
def test_whole_runs_are_the_same_bytes(tmp_path, warc, limit, workers):
    """Rounds on one process against one task on one process, and one task on two."""
    texts = [warc.distinct_prose(number) for number in (1, 2, 3)]
    warc.pages(tmp_path / "a.warc.gz", [*texts, texts[1] + " And more."])
    warc.pages(tmp_path / "b.warc.gz", [texts[2].replace("history", "story"), warc.distinct_prose(9), texts[1]])
    inputs = [str(tmp_path / "a.warc.gz"), str(tmp_path / "b.warc.gz")]
    files = []
    for name, edges, processes in (("plain", 50_000_000, 1), ("other", limit, workers)):
        recipe = CleanWeb(
            [ReadWarc(), Extract(), MinHashDedup(bands=4, rows=6, max_edges_in_memory=edges, hash_ranges=2)]
        )
        with Runner(workers=processes) as runner:
            clean(recipe, inputs, str(tmp_path / name), runner)
        paths = [path for kind in ("clusters", "documents") for path in sorted((tmp_path / name / kind).iterdir())]
        files.append({path.name: path.read_bytes() for path in paths})
    assert files[0] == files[1]
    assert bool(list((tmp_path / "other" / "work").glob("*/large-star-*"))) == (limit == 4)
    rows = pq.read_table(tmp_path / "other" / "clusters" / "minhash_dedup.parquet").to_pylist()
    assert [(row["file"], row["kept"], row["size"]) for row in rows] == [
        ("a.warc.gz", True, 3),
        ("a.warc.gz", True, 2),
        ("a.warc.gz", False, 3),
        ("b.warc.gz", False, 2),
        ("b.warc.gz", False, 3),
    ]
