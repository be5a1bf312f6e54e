"""URL deduplication: within a run, across runs through stores, whatever the number of parts."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.jobs.runners import Runner
from beam_pipelines.web import pipeline
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.dedup.hashing import mix
from beam_pipelines.web.dedup.url_dedup import UrlDedup, unite
from beam_pipelines.web.dedup.url_store import UrlStore, open_store, part_name, read_part, write_manifest, write_part
from beam_pipelines.web.document import Document
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.pipeline import clean
from beam_pipelines.web.recipe import CleanWeb
from t5x_style.errors import UserError

PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=12)


def document(url):
    return Document("0" * 32, "text", "", url, "", "", 0.0, "{}")


def as_array(pairs):
    return np.array(pairs, np.uint64).reshape(-1, 2)


def make_store(folder, hashes, parts):
    """A store of uint64 [n, 2] hashes."""
    written = []
    for part in range(parts):
        own = read_part([], part, parts)
        own = hashes[(hashes[:, 0] >> np.uint64(32)).astype(object) * parts // 2**32 == part] if len(hashes) else own
        own = as_array(sorted(map(tuple, own.tolist())))
        written.append((len(own), write_part(str(folder), part, own)))
    write_manifest(str(folder), written)
    return open_store(str(folder))


@settings(max_examples=200, deadline=None)
@given(PAIRS, PAIRS)
def test_unite_equals_the_naive_one(carried, keys):
    seen, union = unite(as_array(carried), as_array(sorted(keys)))
    assert seen.tolist() == [key in carried for key in sorted(keys)]
    assert [tuple(row) for row in union.tolist()] == sorted({*carried, *keys})


@pytest.mark.parametrize(("stored", "asked"), [(1, 7), (7, 1), (3, 3), (4, 6), (100, 7), (7, 100)])
def test_stores_and_runs_with_other_parts(tmp_path, stored, asked):
    hashes = mix(np.arange(600, dtype=np.uint64)).reshape(-1, 2)
    store = make_store(tmp_path, hashes, stored)
    found = [read_part([store], part, asked) for part in range(asked)]
    joined = sorted(map(tuple, np.concatenate(found).tolist()))
    assert joined == sorted(map(tuple, hashes.tolist()))
    for part, own in enumerate(found):
        assert {int(high) * asked >> 64 for high in own[:, 0].tolist()} <= {part}


def test_keys():
    urls = ["http://a.org/x?utm_source=1", "", "https://www.a.org/x/", "  ", "a.org/y", "http://\ud800/"]
    rows, keys = UrlDedup().keys([document(url) for url in urls])
    assert rows.tolist() == [0, 2, 4, 5]
    assert keys.shape == (4, 1, 2)
    assert (keys[0] == keys[1]).all()
    assert (keys[0] != keys[2]).any()
    assert UrlDedup().keys([])[1].shape == (0, 1, 2)
    assert isinstance(UrlDedup(), CorpusStage)


def test_reasons():
    stage = UrlDedup()
    assert stage.apply_finding(document("x"), None).verdict.reason == ""
    assert stage.apply_finding(document("x"), "").verdict.reason == "seen_in_earlier_dump"
    assert stage.apply_finding(document("x"), "a" * 32).verdict.reason == "duplicate_url"
    assert "duplicate_of" not in stage.apply_finding(document("x"), "").document.metadata


def test_wrong_stores_are_refused_at_once(tmp_path):
    with pytest.raises(UserError, match=r"no store\.json there"):
        UrlDedup(store=str(tmp_path / "nothing"))
    (tmp_path / "store.json").write_text('{"format": "something else"}')
    with pytest.raises(UserError, match="not a store of this format"):
        UrlDedup(store=[str(tmp_path)])
    with pytest.raises(UserError, match="hash_ranges"):
        UrlDedup(hash_ranges=0)


def test_a_lost_part_is_an_error(tmp_path):
    store = make_store(tmp_path, np.zeros((0, 2), np.uint64), 3)
    (tmp_path / part_name(1)).unlink()
    with pytest.raises(UserError, match=r"part-00001\.npy: this part of the url store is gone"):
        read_part([store], 1, 3)
    with pytest.raises(UserError, match=r"part-00001\.npy is gone"):
        write_manifest(str(tmp_path), [(0, ""), (0, ""), (0, "")])


def test_identity_is_the_contents(tmp_path):
    one, other = mix(np.arange(4, dtype=np.uint64)).reshape(2, 2), mix(np.arange(4, 8, dtype=np.uint64)).reshape(2, 2)
    stores = [make_store(tmp_path / str(i), hashes, 2) for i, hashes in enumerate((one, one, other))]
    assert isinstance(stores[0], UrlStore)
    assert stores[0].identity == stores[1].identity != stores[2].identity


def write_crawl(warc, path, urls):
    pages = [warc.record(warc.http(warc.html_page(warc.distinct_prose(i))), url) for i, url in enumerate(urls)]
    warc.write(path, pages)
    return str(path)


def run(inputs, output, **parameters):
    recipe = CleanWeb([ReadWarc(), Extract(), UrlDedup(**{"hash_ranges": 3, **parameters})])
    with Runner() as runner:
        return clean(recipe, inputs, str(output), runner)


def urls_of(folder):
    return [row["url"] for path in sorted(Path(folder).glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_dump_after_dump_only_new_addresses_pass(tmp_path, warc):
    one = write_crawl(warc, tmp_path / "1.warc.gz", ["http://a.org/1", "https://www.a.org/1/", "http://a.org/2"])
    two = write_crawl(warc, tmp_path / "2.warc.gz", ["http://a.org/3?utm_source=x", "http://a.org/2#top"])
    first = run([one], tmp_path / "first")
    assert urls_of(tmp_path / "first" / "documents") == ["http://a.org/1", "http://a.org/2"]
    assert first["stages"][-1]["rejected"] == {"duplicate_url": 1}
    table = pq.read_table(tmp_path / "first" / "clusters" / "url_dedup.parquet").to_pylist()
    assert [(row["kept"], row["size"]) for row in table] == [(True, 2), (False, 2)]

    store = str(tmp_path / "first" / "url_store")
    second = run([two], tmp_path / "second", store=store, hash_ranges=5)
    assert urls_of(tmp_path / "second" / "documents") == ["http://a.org/3?utm_source=x"]
    assert second["stages"][-1]["rejected"] == {"seen_in_earlier_dump": 1}

    third = run([one, two], tmp_path / "third", store=[str(tmp_path / "second" / "url_store")])
    assert urls_of(tmp_path / "third" / "documents") == []
    assert third["stages"][-1]["rejected"] == {"seen_in_earlier_dump": 5}
    manifest = json.loads((tmp_path / "third" / "url_store" / "store.json").read_text())
    assert (manifest["urls"], manifest["parts"]) == (3, 3)

    together = run([one, two], tmp_path / "together")
    assert together["stages"][-1]["kept"] == 3
    united = [np.load(tmp_path / "together" / "url_store" / part_name(part)) for part in range(3)]
    carried = [np.load(tmp_path / "third" / "url_store" / part_name(part)) for part in range(3)]
    assert [part.tolist() for part in united] == [part.tolist() for part in carried]


def test_another_content_of_a_store_is_noticed(tmp_path, warc, monkeypatch):
    monkeypatch.setattr(pipeline, "code_version", lambda: "the same")  # whoever edits the package meanwhile
    page = write_crawl(warc, tmp_path / "1.warc.gz", ["http://a.org/1", "http://a.org/2"])
    run([page], tmp_path / "first")
    empty = make_store(tmp_path / "store", np.zeros((0, 2), np.uint64), 2)
    assert run([page], tmp_path / "out", store=empty.folder)["stages"][-1]["kept"] == 2
    full = tmp_path / "first" / "url_store"
    for path in (tmp_path / "store").iterdir():
        path.unlink()
    for path in full.iterdir():
        (tmp_path / "store" / path.name).write_bytes(path.read_bytes())
    assert run([page], tmp_path / "out", store=empty.folder)["stages"][-1]["kept"] == 0


def test_a_runs_own_store_is_refused(tmp_path, warc):
    page = write_crawl(warc, tmp_path / "1.warc.gz", ["http://a.org/1"])
    make_store(tmp_path / "out" / "url_store", np.zeros((0, 2), np.uint64), 3)
    with pytest.raises(UserError, match="is what this run writes"):
        run([page], tmp_path / "out", store=str(tmp_path / "out" / "." / "url_store"))
