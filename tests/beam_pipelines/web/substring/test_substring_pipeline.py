"""Span cutting inside a recipe: what comes out, both methods, kills, workers, more inputs."""

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

from beam_pipelines import clean_web
from beam_pipelines.files import storage

PASSAGE = " ".join(f"passage{number}" for number in range(30))
GIN = """
from __gin__ import dynamic_registration

from beam_pipelines.web.extraction import extract
from beam_pipelines.web.filters import gopher_quality
from beam_pipelines.web.substring import line_dedup
from beam_pipelines.web.archives import read_warc
from beam_pipelines.web import recipe
from beam_pipelines.web.substring import exact_substring

recipe.CleanWeb.stages = [
    @read_warc.ReadWarc(),
    @extract.Extract(),
    @exact_substring.ExactSubstring(),
    @gopher_quality.GopherQuality(),
    @line_dedup.LineDedup(),
    @last/gopher_quality.GopherQuality(),
]
exact_substring.ExactSubstring.length = 20
exact_substring.ExactSubstring.method = 'auto'
line_dedup.LineDedup.min_characters = 30
gopher_quality.GopherQuality.min_words = 3
last/gopher_quality.GopherQuality.name = 'last'
last/gopher_quality.GopherQuality.min_words = 10
"""
METHOD = ["--gin.exact_substring.ExactSubstring.method='windows'"]
RANGES = ["--gin.exact_substring.ExactSubstring.hash_ranges=1"]


def sentence(number: int) -> str:
    return (
        " ".join(f"the{number} and of{number} that has number{number * 7 + word}" for word in range(3))
        + f" the end{number}."
    )


def texts(file: str) -> list[str]:
    """Pages of two files, with the passage planted in both, lines that are alike, and copies."""
    if file == "a":
        pages = [f"{sentence(n)}\n{sentence(n + 1000)}" for n in range(12)]
        pages[3] = f"{sentence(3)} {PASSAGE} {sentence(1003)}"
        pages[5] = f"All rights are reserved by the owners of it.\n{sentence(5)}"
        return pages
    if file == "b":
        pages = [f"{sentence(n)}\n{sentence(n + 1000)}" for n in range(20, 30)]
        pages[2] = f"{sentence(22)} {PASSAGE} {sentence(1022)}"
        pages[4] = f"{PASSAGE}\nshort tail"
        pages[6] = f"{sentence(26)}\nall rights are RESERVED by the owners of it."
        return pages
    return [f"{sentence(40)}\n{PASSAGE} {sentence(41)}", sentence(42)]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory, warc) -> Path:
    """Two files and a recipe."""
    folder = tmp_path_factory.mktemp("crawl")
    for file in "ab":
        warc.pages(folder / f"{file}.warc.gz", texts(file))
    (folder / "recipe.gin").write_text(GIN)
    return folder


def arguments(crawl: Path, output: Path | str, *more: str) -> list[str]:
    gin = ["--gin_file", str(crawl / "recipe.gin")]
    return ["--input", str(crawl / "*.warc.gz"), "--output", str(output), *gin, *more]


@pytest.fixture(scope="module")
def cleaned(crawl, tmp_path_factory) -> Path:
    """A finished run, one process. Not to be changed."""
    folder = tmp_path_factory.mktemp("cleaned") / "out"
    assert clean_web.main(arguments(crawl, folder)) == 0
    return folder


def rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def contents(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("documents/*"), *folder.glob("rejected/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def by_url(rows: list[dict]) -> dict[str, dict]:
    return {row["url"].removeprefix("http://x/"): row for row in rows}


def test_spans_and_lines_are_cut(cleaned):
    documents, rejected = by_url(rows(cleaned / "documents")), by_url(rows(cleaned / "rejected"))
    assert PASSAGE in documents["a.warc.gz/3"]["text"]
    cut = documents["b.warc.gz/2"]
    assert cut["text"] == f"{sentence(22)} {sentence(1022)}"
    ((start, stop, copy),) = json.loads(cut["metadata"])["exact_substring"]
    assert f"{sentence(22)} {PASSAGE} {sentence(1022)}"[start:stop] == PASSAGE
    assert copy == documents["a.warc.gz/3"]["id"]
    short = rejected["b.warc.gz/4"]
    assert (short["stage"], short["reason"], short["value"]) == ("exact_substring", "too_short_after_cut", 10)
    assert short["text"].split() == [*PASSAGE.split(), "short", "tail"]
    assert "All rights" in documents["a.warc.gz/5"]["text"]
    line = documents["b.warc.gz/6"]
    assert line["text"] == sentence(26)
    ((start, stop),) = json.loads(line["metadata"])["line_dedup"]
    assert stop - start == len("all rights are RESERVED by the owners of it.")
    untouched = documents["b.warc.gz/1"]
    assert untouched["text"].split() == texts("b")[1].split()
    assert {"exact_substring", "line_dedup"}.isdisjoint(json.loads(untouched["metadata"]))


def test_the_funnel_counts_documents_and_edits(cleaned):
    stats = json.loads((cleaned / "stats.json").read_text())
    stages = {stage["name"]: stage for stage in stats["stages"]}
    assert stages["exact_substring"]["in"] == 22
    assert stages["exact_substring"]["rejected"] == {"too_short_after_cut": 1}
    assert stages["last"]["kept"] == stats["documents"] == 21
    results = [json.loads(path.read_text()) for path in cleaned.glob("work/03-exact_substring/unit-*.json")]
    edits = [result["stages"]["exact_substring"]["edits"] for result in results]
    expected = {"words_cut": 30, "documents_cut": 1, "spans_cut": 1, "characters_cut": len(PASSAGE) + 1}
    assert sorted(edits, key=len) == [{}, expected]


@pytest.mark.slow  # in the fast tests: the windows in test_remote_output, the workers in web/test_clean_web.py
@pytest.mark.parametrize(
    "more",
    [
        ["--workers", "2"],
        [
            "--gin.exact_substring.ExactSubstring.method='windows'",
            "--gin.exact_substring.ExactSubstring.hash_ranges=1",
            "--workers",
            "2",
        ],
        ["--gin.exact_substring.ExactSubstring.method='suffix_array'"],
    ],
)
def test_the_same_bytes_whatever_the_method_and_the_workers(crawl, cleaned, tmp_path, more):
    assert clean_web.main(arguments(crawl, tmp_path / "out", *more)) == 0
    assert contents(tmp_path / "out") == contents(cleaned)


@pytest.mark.slow  # in the fast tests: web/test_resume.py
@pytest.mark.parametrize("moment", ["01-exact_substring/unit-", "04-line_dedup/unit-"])
def test_a_killed_run_continues_to_the_same_bytes(crawl, cleaned, tmp_path, moment):
    output = tmp_path / "out"
    options = ["--workers", "2", *METHOD]
    command = [sys.executable, "-m", "beam_pipelines.clean_web", *arguments(crawl, output, *options)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((output / "work").glob(f"{moment}*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "stats.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in output.glob("work/*/unit-*.json")}
    assert any(path.parent.name == moment.split("/")[0] for path in kept)
    assert clean_web.main(arguments(crawl, output, options[-1])) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # what was done was not done again
    assert contents(output) == contents(cleaned)


def test_a_second_run_changes_nothing(crawl, cleaned, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(cleaned, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert clean_web.main(arguments(crawl, output)) == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["0", pytest.param("c", marks=pytest.mark.slow)])
def test_a_new_input_redoes_only_what_it_must(crawl, cleaned, tmp_path, warc, name):
    """A file that holds the passage too: as the first one it takes the kept copy over, as the last one nothing else
    changes."""
    new, output = tmp_path / "crawl", tmp_path / "out"
    shutil.copytree(crawl, new)
    assert clean_web.main(arguments(new, output)) == 0
    warc.pages(new / f"{name}.warc.gz", texts(name))
    times = {path: path.stat().st_mtime_ns for path in output.rglob("unit-*.json")}
    assert clean_web.main(arguments(new, output)) == 0
    redone = {str(path.relative_to(output / "work")) for path, at in times.items() if path.stat().st_mtime_ns != at}
    again = {"a.warc.gz", "b.warc.gz"} if name == "0" else set()
    assert {item for item in redone if "unit-" in item and item.startswith(("00", "03"))} == {
        f"03-exact_substring/unit-{unit}.json" for unit in again
    }
    fresh = tmp_path / "fresh"
    assert clean_web.main(arguments(new, fresh)) == 0
    assert contents(output) == contents(fresh)
    kept = [row["url"] for row in rows(output / "documents") if PASSAGE in row["text"]]
    assert kept == ["http://x/0.warc.gz/0" if name == "0" else "http://x/a.warc.gz/3"]


def test_remote_output(crawl, cleaned):
    """fsspec's in-memory files stand for a bucket."""
    assert clean_web.main(arguments(crawl, "memory://substring/out", *METHOD)) == 0
    for name, content in contents(cleaned).items():
        with storage.open_read(f"memory://substring/out/{name}") as file:
            assert file.read() == content
