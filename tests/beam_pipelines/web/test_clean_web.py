"""The command, end to end: outputs, funnel, dedup order, reruns, kills, refusals, runners."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from beam_pipelines import clean_web, storage
from beam_pipelines.runners import Runner
from beam_pipelines.web import pipeline
from beam_pipelines.web.exact_dedup import ExactDedup
from beam_pipelines.web.extract import Extract
from beam_pipelines.web.gopher_quality import GopherQuality
from beam_pipelines.web.gopher_repetition import GopherRepetition
from beam_pipelines.web.language import Language
from beam_pipelines.web.minhash import MinHashDedup
from beam_pipelines.web.parquet import DOCUMENTS, REJECTED
from beam_pipelines.web.read_warc import ReadWarc
from beam_pipelines.web.recipe import CleanWeb

GIN = "gin/web/quickstart.gin"
GERMAN = "Der Fluss entspringt in den Bergen und fließt durch die Wiesen bis zur alten Mühle am Rand der Stadt. " * 3


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


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that must come out the same whatever happened on the way."""
    paths = [*folder.glob("documents/*"), *folder.glob("rejected/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def add_up(stats: dict) -> None:
    before = None
    for stage in stats["stages"]:
        assert stage["in"] == stage["kept"] + sum(stage["rejected"].values())
        assert before is None or stage["in"] == before
        before = stage["kept"]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory, warc) -> Path:
    """Three files: prose, copies, near copies, German, short pages, broken records."""
    folder = tmp_path_factory.mktemp("crawl")
    one = [warc.distinct_prose(number) for number in range(30)]
    warc.pages(folder / "a.warc.gz", [*one, GERMAN, "Too short to stay here.", one[3], ""])
    near = warc.distinct_prose(5).replace("history", "story")
    offsets = warc.pages(folder / "b.warc.gz", [one[0], near, *map(warc.distinct_prose, range(100, 120)), one[7]])
    content = bytearray((folder / "b.warc.gz").read_bytes())
    content[offsets[10] + 30 : offsets[10] + 60] = bytes(30)  # the page of number 108
    (folder / "b.warc.gz").write_bytes(content)
    pages = [warc.record(warc.http(b"x", "404 Not Found"), "http://x/c/0")]
    pages += [warc.record(one[1].encode(), "http://x/c/1", "conversion", "text/plain")]
    pages += [warc.record(warc.http(b"<div>" * 200_000), "http://x/c/2")]  # hangs the parser
    pages += [warc.record(warc.http(warc.html_page(warc.distinct_prose(200))), "http://x/c/3")]
    warc.write(folder / "c.warc.gz", pages)
    return folder


def inputs(crawl: Path) -> list[str]:
    return storage.expand([str(crawl / "*.warc.gz")])


@pytest.fixture(scope="module")
def cleaned(crawl, tmp_path_factory) -> Path:
    """A finished run, one process. Not to be changed."""
    folder = tmp_path_factory.mktemp("cleaned") / "out"
    assert clean_web.main(arguments(crawl, folder)) == 0
    return folder


def test_columns_are_the_contracts(cleaned):
    for path in cleaned.glob("documents/*.parquet"):
        assert pq.read_schema(path).equals(DOCUMENTS)
    for path in cleaned.glob("rejected/*.parquet"):
        assert pq.read_schema(path).equals(REJECTED)
    names = ["id", "text", "source", "url", "date", "language", "language_score", "metadata"]
    assert DOCUMENTS.names == names
    assert REJECTED.names == [*names, "stage", "reason", "value"]
    assert [path.name for path in sorted(cleaned.glob("documents/*"))] == [f"{n}.warc.gz.parquet" for n in "abc"]


def test_documents(cleaned):
    documents = rows(cleaned / "documents")
    assert len(documents) == 30 + 19 + 1
    assert len({row["id"] for row in documents}) == len(documents)
    first = documents[0]
    assert first["text"].startswith("Here is what we know about the history of place 0 ")
    assert (first["source"], first["url"], first["date"]) == ("web", "http://x/a.warc.gz/0", "2024-05-01T00:00:00Z")
    assert first["language"] == "en"
    assert 0.5 <= first["language_score"] <= 1
    assert json.loads(first["metadata"]) == {"title": "A title", "meta": {}, "file": "a.warc.gz", "offset": 0}


def test_every_rejection_has_its_reason(cleaned):
    found = {}
    for row in rows(cleaned / "rejected"):
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


def test_the_first_copy_in_input_order_stays(cleaned):
    by_id = {row["id"]: row for row in rows(cleaned / "documents")}
    for row in rows(cleaned / "rejected"):
        if row["stage"].endswith("dedup"):
            keeper = by_id[json.loads(row["metadata"])["duplicate_of"]]
            assert json.loads(keeper["metadata"])["file"] == "a.warc.gz"
            assert keeper["text"].replace("history", "story").split() == row["text"].replace("history", "story").split()


def test_the_funnel_adds_up(cleaned):
    stats = json.loads((cleaned / "stats.json").read_text())
    add_up(stats)
    assert [stage["name"] for stage in stats["stages"]] == [stage.name for stage in recipe().stages]
    assert stats["stages"][0]["in"] == 34 + 23 + 4
    assert stats["stages"][-1]["kept"] == stats["documents"] == len(rows(cleaned / "documents"))
    assert stats["records"] == {"broken": 1, "conversion": 1, "response": 34 + 22 + 3}
    assert stats["characters"] == sum(len(row["text"]) for row in rows(cleaned / "documents"))
    assert all(stage["seconds"] >= 0 for stage in stats["stages"])


def copy(folder: Path, target: Path) -> Path:
    """A copy with the files' times, to change."""
    shutil.copytree(folder, target)
    return target


def arguments(crawl: Path, output: Path, *more: str) -> list[str]:
    own = ["--gin.extract.Extract.timeout=1.0", "--gin.MIN_WORDS=50"]
    return ["--input", str(crawl / "*.warc.gz"), "--output", str(output), "--gin_file", GIN, *own, *more]


def test_a_second_run_changes_nothing(crawl, cleaned, tmp_path):
    output = copy(cleaned, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert clean_web.main(arguments(crawl, output)) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


def test_two_workers_give_the_same_bytes(crawl, cleaned, tmp_path):
    assert clean_web.main(arguments(crawl, tmp_path / "out", "--workers", "2")) == 0
    assert contents(tmp_path / "out") == contents(cleaned)


def test_a_lost_file_is_found_out(crawl, cleaned, tmp_path):
    """A result says done, but its rejected file was tampered with: the funnel is counted from the files."""
    output = copy(cleaned, tmp_path / "out")
    shutil.copy(output / "rejected" / "c.warc.gz.00-read.parquet", output / "rejected" / "a.warc.gz.00-read.parquet")
    shutil.rmtree(output / "work" / "07-count")
    with pytest.raises(RuntimeError, match="does not add up"):
        clean_web.main(arguments(crawl, output))


def test_a_new_input_redoes_only_what_it_must(crawl, cleaned, tmp_path, warc):
    """A new file sorts first, holds a copy of a document of a.warc.gz and nothing of b or c."""
    new = copy(crawl, tmp_path / "crawl")
    output = tmp_path / "out"
    assert clean_web.main(arguments(new, output)) == 0
    warc.pages(new / "0.warc.gz", [warc.distinct_prose(4), warc.distinct_prose(300)])
    times = {path: path.stat().st_mtime_ns for path in output.rglob("unit-*.json")}
    assert clean_web.main(arguments(new, output)) == 0
    redone = {str(path.relative_to(output / "work")) for path, at in times.items() if path.stat().st_mtime_ns != at}
    first = {name for name in redone if name.startswith("00-read")}
    assert first == set()
    assert {name for name in redone if name.startswith("03-exact_dedup")} == {"03-exact_dedup/unit-a.warc.gz.json"}
    fresh = tmp_path / "fresh"
    assert clean_web.main(arguments(new, fresh)) == 0
    assert contents(output) == contents(fresh)
    (moved,) = [
        row for row in rows(output / "rejected") if json.loads(row["metadata"])["offset"] and "place 4 " in row["text"]
    ]
    assert (moved["stage"], json.loads(moved["metadata"])["file"]) == ("exact_dedup", "a.warc.gz")


@pytest.mark.parametrize("moment", ["00-read/unit-a", "03-exact_dedup/unit-", "06-minhash_dedup/unit-"])
def test_a_killed_run_continues_to_the_same_bytes(crawl, cleaned, tmp_path, moment):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "beam_pipelines.clean_web", *arguments(crawl, output, "--workers", "2")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((output / "work").glob(f"{moment}*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "stats.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("work/*/unit-*.json")}
    assert kept
    assert clean_web.main(arguments(crawl, output)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # what was done was not done again
    assert contents(output) == contents(cleaned)
    assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]


def failing(capsys, argv: list[str]) -> str:
    capsys.readouterr()
    assert clean_web.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_mistakes_give_one_line_and_code_2(crawl, cleaned, tmp_path, capsys, monkeypatch):
    good = arguments(crawl, tmp_path / "out")
    assert "no file matches" in failing(capsys, ["--input", str(crawl / "*.warx"), *good[2:]])
    assert "--gin_file is missing" in failing(capsys, good[:4])
    assert "nowhere.gin" in failing(capsys, [*good[:4], "--gin_file", "nowhere.gin"])
    assert "MIN_WORD" in failing(capsys, [*good, "--gin.MIN_WORD=3"])
    assert "unknown argument" in failing(capsys, [*good, "--inptu=x"])
    assert "Prism" in failing(capsys, [*good, "--runner", "PrismRunner"])
    (tmp_path / "file").write_text("")
    assert "cannot be written" in failing(capsys, arguments(crawl, tmp_path / "file" / "out"))
    assert not (tmp_path / "out" / "work").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_mistake_that_only_a_worker_can_see(crawl, tmp_path, capsys, workers):
    more = ["--gin.language.Language.model='nowhere.ftz'", "--workers", workers]
    assert "nowhere.ftz" in failing(capsys, arguments(crawl, tmp_path / "out", *more))


def test_ctrl_c(crawl, tmp_path):
    """One line, code 130, no process left; the next run goes on (see the kill tests)."""
    output = tmp_path / "out"
    more = ["--workers", "2", "--gin.extract.Extract.timeout=60.0"]  # one page keeps the first job busy
    command = [sys.executable, "-m", "beam_pipelines.clean_web", *arguments(crawl, output), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list((output / "work" / "00-read").glob("unit-a*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate(timeout=30)[1].strip().splitlines()
    assert process.returncode == 130
    assert errors == ["interrupted: run the same command again to continue"]
    while _group_lives(process.pid):
        assert time.monotonic() < deadline, "a worker outlived the command"
        time.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_remote_output(crawl, cleaned):
    """fsspec's in-memory files stand for a bucket."""
    with Runner() as runner:
        stats = pipeline.clean(recipe(), inputs(crawl)[:2], "memory://bucket/out", runner)
    assert stats["documents"] == 30 + 19
    assert storage.list_files("memory://bucket/out/documents", "") == ["a.warc.gz.parquet", "b.warc.gz.parquet"]
    with storage.open_read("memory://bucket/out/documents/a.warc.gz.parquet") as file:
        ids = pq.read_table(file).column("id").to_pylist()
    assert ids == pq.read_table(cleaned / "documents" / "a.warc.gz.parquet").column("id").to_pylist()


def test_an_output_of_something_else_is_refused(crawl, cleaned, tmp_path, capsys):
    output = copy(cleaned, tmp_path / "out")
    message = failing(capsys, arguments(crawl, output, "--gin.MIN_WORDS=49"))
    assert "gopher_quality.min_words: 50 there, 49 now" in message
    path = output / "work" / "configuration.json"
    path.write_text(path.read_text().replace("resiliparse 2", "resiliparse 1"))
    assert "another code" in failing(capsys, arguments(crawl, output))
    path.unlink()
    assert "documents of something else" in failing(capsys, arguments(crawl, output))


def test_an_input_that_is_gone_is_refused(crawl, cleaned, tmp_path, capsys):
    output = copy(cleaned, tmp_path / "out")
    argv = arguments(crawl, output)
    message = failing(capsys, ["--input", str(crawl / "a*"), str(crawl / "b*"), *argv[2:]])
    assert "documents of c.warc.gz" in message


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


def test_files_with_one_name_in_two_folders(tmp_path, warc):
    for name in ("x", "y"):
        warc.pages(tmp_path / name / "a.warc.gz", [warc.distinct_prose(ord(name))])
    found = storage.expand([str(tmp_path / "*" / "a.warc.gz")])
    with Runner() as runner:
        pipeline.clean(CleanWeb([ReadWarc(), Extract()]), found, str(tmp_path / "out"), runner)
    documents = rows(tmp_path / "out" / "documents")
    assert [json.loads(row["metadata"])["file"] for row in documents] == ["x/a.warc.gz", "y/a.warc.gz"]
    assert documents[0]["id"] != documents[1]["id"]


@pytest.mark.slow
def test_dask_gives_the_same_bytes(crawl, cleaned, tmp_path):
    """A real LocalCluster with two worker processes."""
    assert clean_web.main(arguments(crawl, tmp_path / "out", "--runner", "dask", "--workers", "2")) == 0
    assert contents(tmp_path / "out") == contents(cleaned)


@pytest.mark.slow
def test_real_pages_and_broken_files(shared_data, tmp_path):
    files = storage.expand([str(shared_data / "web" / "*.warc.gz"), str(shared_data / "web" / "fixtures" / "*.w*")])
    with Runner(workers=2) as runner:
        stats = pipeline.clean(recipe(), files, str(tmp_path / "out"), runner)
    add_up(stats)
    real = [
        row for row in rows(tmp_path / "out" / "documents") if json.loads(row["metadata"])["file"].startswith("pages-")
    ]
    assert 400 < len(real) <= 564
    assert stats["records"]["response"] >= 564
