"""The command, end to end: outputs, funnel, dedup order, refusals. Reruns and kills are in test_resume."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_pipelines import clean_web
from beam_pipelines.files import storage
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.web import pipeline
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.dedup.exact_dedup import ExactDedup
from beam_pipelines.web.dedup.minhash import MinHashDedup
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.filters.gopher_quality import GopherQuality
from beam_pipelines.web.filters.gopher_repetition import GopherRepetition
from beam_pipelines.web.parquet import DOCUMENTS, REJECTED
from beam_pipelines.web.recipe import CleanWeb
from beam_pipelines.web.text.language import Language


def recipe(**quality) -> CleanWeb:
    return CleanWeb(
        [
            ReadWarc(),
            Extract(),
            Language(threshold=0.5),
            GopherRepetition(),
            GopherQuality(**quality),
            ExactDedup(hash_ranges=3),
            MinHashDedup(hash_ranges=2),
        ]
    )


def add_up(stats: dict) -> None:
    before = None
    for stage in stats["stages"]:
        assert stage["in"] == stage["kept"] + sum(stage["rejected"].values())
        assert before is None or stage["in"] == before
        before = stage["kept"]


def inputs(crawl: Path) -> list[str]:
    return storage.expand([str(crawl / "*.warc.gz")])


def test_columns_are_the_contracts(cleaned):
    for path in cleaned.glob("documents/*.parquet"):
        assert pq.read_schema(path).equals(DOCUMENTS)
    for path in cleaned.glob("rejected/*.parquet"):
        assert pq.read_schema(path).equals(REJECTED)
    names = ["id", "text", "source", "url", "date", "language", "language_score", "metadata"]
    assert DOCUMENTS.names == names
    assert REJECTED.names == [*names, "stage", "reason", "value"]
    assert [path.name for path in sorted(cleaned.glob("documents/*"))] == [f"{n}.warc.gz.parquet" for n in "abc"]


def test_documents(cleaned, runs):
    documents = runs.rows(cleaned / "documents")
    assert len(documents) == 30 + 19 + 1
    assert len({row["id"] for row in documents}) == len(documents)
    first = documents[0]
    assert first["text"].startswith("Here is what we know about the history of place 0 ")
    assert (first["source"], first["url"], first["date"]) == ("web", "http://x/a.warc.gz/0", "2024-05-01T00:00:00Z")
    assert first["language"] == "en"
    assert 0.5 <= first["language_score"] <= 1
    metadata = json.loads(first["metadata"])
    made = {"extractor": "resiliparse", "encoding": "utf-8"}
    assert metadata == {"title": "A title", "meta": {}, **made, "file": "a.warc.gz", "offset": 0}


def test_every_rejection_has_its_reason(cleaned, runs):
    found = {}
    for row in runs.rows(cleaned / "rejected"):
        found.setdefault((row["stage"], row["reason"]), []).append(row)
    counts = {key: len(value) for key, value in found.items()}
    assert counts == {
        ("read", "broken_record"): 1,
        ("read", "http_status"): 1,
        ("extract", "no_text"): 1,
        ("extract", "timeout"): 1,
        ("language", "other_language"): 1,
        ("gopher_quality", "words_low"): 1,
        ("exact_dedup", "duplicate"): 3,
        ("minhash_dedup", "near_duplicate"): 2,  # of them one copy with other line breaks, from a WET file
    }
    (broken,) = found["read", "broken_record"]
    place = json.loads(broken["metadata"])
    assert place["file"] == "b.warc.gz"
    assert place["offset"] > 0
    assert place["detail"]
    assert found["gopher_quality", "words_low"][0]["text"] == "Too short to stay here."
    assert found["gopher_quality", "words_low"][0]["value"] == 5
    assert found["extract", "no_text"][0]["value"] is None
    assert found["read", "http_status"][0]["value"] == 404


def test_the_first_copy_in_input_order_stays(cleaned, runs):
    by_id = {row["id"]: row for row in runs.rows(cleaned / "documents")}
    for row in runs.rows(cleaned / "rejected"):
        if row["stage"].endswith("dedup"):
            keeper = by_id[json.loads(row["metadata"])["duplicate_of"]]
            assert json.loads(keeper["metadata"])["file"] == "a.warc.gz"
            assert keeper["text"].replace("history", "story").split() == row["text"].replace("history", "story").split()


def test_the_funnel_adds_up(cleaned, runs):
    stats = json.loads((cleaned / "stats.json").read_text())
    add_up(stats)
    assert [stage["name"] for stage in stats["stages"]] == [stage.name for stage in recipe().stages]
    assert stats["stages"][0]["in"] == 34 + 23 + 4
    assert stats["stages"][-1]["kept"] == stats["documents"] == len(runs.rows(cleaned / "documents"))
    assert stats["records"] == {"broken": 1, "conversion": 1, "response": 34 + 22 + 3}
    assert stats["characters"] == sum(len(row["text"]) for row in runs.rows(cleaned / "documents"))
    assert all(stage["seconds"] >= 0 for stage in stats["stages"])


def test_two_workers_give_the_same_bytes(crawl, cleaned, tmp_path, runs):
    assert clean_web.main(runs.arguments(crawl, tmp_path / "out", "--workers", "2")) == 0
    assert runs.contents(tmp_path / "out") == runs.contents(cleaned)


def failing(capsys, argv: list[str]) -> str:
    capsys.readouterr()
    assert clean_web.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_mistakes_give_one_line_and_code_2(crawl, cleaned, tmp_path, capsys, monkeypatch, runs):
    good = runs.arguments(crawl, tmp_path / "out")
    assert "no file matches" in failing(capsys, ["--input", str(crawl / "*.warx"), *good[2:]])
    assert "--gin_file is missing" in failing(capsys, good[:4])
    assert "nowhere.gin" in failing(capsys, [*good[:4], "--gin_file", "nowhere.gin"])
    assert "MIN_WORD" in failing(capsys, [*good, "--gin.MIN_WORD=3"])
    assert "unknown argument" in failing(capsys, [*good, "--inptu=x"])
    assert "Prism" in failing(capsys, [*good, "--runner", "PrismRunner"])
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failing(capsys, runs.arguments(crawl, tmp_path / "file" / "out"))
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_mistake_that_only_a_worker_can_see(crawl, tmp_path, capsys, workers, runs):
    more = ["--gin.language.Language.model='nowhere.ftz'", "--workers", workers]
    assert "nowhere.ftz" in failing(capsys, runs.arguments(crawl, tmp_path / "out", *more))


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_inputs_that_cannot_be_read(crawl, tmp_path, capsys, workers, runs):
    listed = tmp_path / "list"
    listed.write_text(f"{crawl / 'a.warc.gz'}\n{tmp_path}\n")  # a folder
    argv = ["--input_paths", str(listed), *runs.arguments(crawl, tmp_path / "out", "--workers", workers)[2:]]
    assert f"input {tmp_path} cannot be read (Is a directory)" in failing(capsys, argv)


def test_remote_output(crawl, cleaned):
    """fsspec's in-memory files stand for a bucket."""
    with Runner() as runner:
        stats = pipeline.clean(recipe(), inputs(crawl)[:2], "memory://bucket/out", runner)
    assert stats["documents"] == 30 + 19
    assert storage.list_files("memory://bucket/out/documents", "") == ["a.warc.gz.parquet", "b.warc.gz.parquet"]
    with storage.open_read("memory://bucket/out/documents/a.warc.gz.parquet") as file:
        ids = pq.read_table(file).column("id").to_pylist()
    assert ids == pq.read_table(cleaned / "documents" / "a.warc.gz.parquet").column("id").to_pylist()


def test_other_recipes(crawl, tmp_path, warc):
    """No deduplication at all; one document stage behind one deduplication."""
    only = [str(crawl / "c.warc.gz")]
    with Runner() as runner:
        plain = pipeline.clean(CleanWeb([ReadWarc(), Extract(timeout=1.0)]), only, str(tmp_path / "plain"), runner)
        late = [ReadWarc(), Extract(timeout=1.0), MinHashDedup(), GopherQuality(min_words=10_000)]
        strict = pipeline.clean(CleanWeb(late), only, str(tmp_path / "late"), runner)
    assert [(stage["name"], stage["kept"]) for stage in plain["stages"]] == [("read", 3), ("extract", 2)]
    assert strict["documents"] == 0
    assert strict["stages"][-1]["rejected"] == {"words_low": 2}
    assert pq.read_table(tmp_path / "late" / "documents").num_rows == 0


def test_files_with_one_name_in_two_folders(tmp_path, warc, runs):
    for name in ("x", "y"):
        warc.pages(tmp_path / name / "a.warc.gz", [warc.distinct_prose(ord(name))])
    found = storage.expand([str(tmp_path / "*" / "a.warc.gz")])
    with Runner() as runner:
        pipeline.clean(CleanWeb([ReadWarc(), Extract()]), found, str(tmp_path / "out"), runner)
    documents = runs.rows(tmp_path / "out" / "documents")
    assert [json.loads(row["metadata"])["file"] for row in documents] == ["x/a.warc.gz", "y/a.warc.gz"]
    assert documents[0]["id"] != documents[1]["id"]


@pytest.mark.slow
def test_real_pages_and_broken_files(shared_data, tmp_path, runs):
    files = storage.expand([str(shared_data / "web" / "*.warc.gz"), str(shared_data / "web" / "fixtures" / "*.w*")])
    with Runner(workers=2) as runner:
        stats = pipeline.clean(recipe(), files, str(tmp_path / "out"), runner)
    add_up(stats)
    real = [
        row
        for row in runs.rows(tmp_path / "out" / "documents")
        if json.loads(row["metadata"])["file"].startswith("pages-")
    ]
    assert 400 < len(real) <= 564
    assert stats["records"]["response"] >= 564
