"""Killed, interrupted, repeated, extended and refused runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beam_pipelines import clean_web

# Kills itself just before the `count`-th file of a name takes its place: what follows is as after a power cut.
KILLER = """
import fnmatch, os, signal, sys
pattern, left, replace = sys.argv[1], int(sys.argv[2]), os.replace
def killing(source, target):
    global left
    left -= fnmatch.fnmatch(str(target), pattern)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killing
from beam_pipelines import clean_web
sys.exit(clean_web.main(sys.argv[3:]))
"""
MOMENTS = {
    "while a file is read": ("*/rejected/b.warc.gz.00-read.parquet", 1),
    "between two files": ("*/00-read/unit-b.warc.gz.json", 1),
    "in a shuffle": ("*-exact_dedup/unit-*.json", 2),
    "in the second shuffle": ("*-minhash_dedup/unit-*.json", 6),
    "in the last map job": ("*/out/documents/b.warc.gz.parquet", 1),
    "while counting": ("*-count/unit-*.json", 2),
    "at the end": ("*/stats.json", 1),
    "in the report": ("*/report.html", 1),
}
QUICK = ("in the second shuffle",)


def check_continued(runs, crawl: Path, output: Path, cleaned: Path) -> None:
    """Runs the same command again: nothing finished is done again, and the outputs are those of a run in one go."""
    done = runs.times(output, "work/*/unit-*.json")
    assert done
    runs.clean(crawl, output)
    after = runs.times(output, "work/*/unit-*.json")
    assert {path: after[path] for path in done} == done
    assert runs.contents(output) == runs.contents(cleaned)
    assert (output / "report.html").exists()
    left = [path for path in output.rglob("*") if path.name.endswith(".tmp") or path.name == "shuffle"]
    assert left == []


@pytest.mark.parametrize(
    "moment", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in MOMENTS]
)
def test_a_killed_run_continues_to_the_same_bytes(crawl, cleaned, tmp_path, runs, moment):
    output = tmp_path / "out"
    pattern, count = MOMENTS[moment]
    command = [sys.executable, "-c", KILLER, pattern, str(count), *runs.arguments(crawl, output)]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=120).returncode == -signal.SIGKILL
    check_continued(runs, crawl, output, cleaned)


@pytest.mark.slow
def test_a_killed_run_of_two_processes(crawl, cleaned, tmp_path, runs):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "beam_pipelines.clean_web", *runs.arguments(crawl, output, "--workers", "2")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((output / "work").glob("*-minhash_dedup/unit-*.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (output / "stats.json").exists()
    check_continued(runs, crawl, output, cleaned)


def test_a_second_run_changes_nothing(crawl, cleaned, tmp_path, runs):
    output = runs.copy(cleaned, tmp_path / "out")
    before = runs.times(output)
    runs.clean(crawl, output)
    assert runs.times(output) == before


def test_a_lost_report_is_written_again(crawl, cleaned, tmp_path, runs):
    output = runs.copy(cleaned, tmp_path / "out")
    (output / "report.html").unlink()
    (output / "work" / "samples.json").unlink()
    before = runs.times(output)
    runs.clean(crawl, output)
    written = {path: at for path, at in runs.times(output).items() if path not in before}
    assert sorted(path.name for path in written) == ["report.html", "samples.json"]
    assert runs.contents(output) == runs.contents(cleaned)


def test_a_lost_file_is_found_out(crawl, cleaned, tmp_path, runs):
    """A result says done, but its rejected file was tampered with: the funnel is counted from the files."""
    output = runs.copy(cleaned, tmp_path / "out")
    shutil.copy(output / "rejected" / "c.warc.gz.00-read.parquet", output / "rejected" / "a.warc.gz.00-read.parquet")
    (count,) = (output / "work").glob("*-count")
    shutil.rmtree(count)
    with pytest.raises(RuntimeError, match="does not add up"):
        clean_web.main(runs.arguments(crawl, output))


def test_a_new_input_redoes_only_what_it_must(crawl, tmp_path, warc, runs):
    """A new file sorts first, holds a copy of a document of a.warc.gz and nothing of b."""
    new = runs.copy(crawl, tmp_path / "crawl")
    (new / "c.warc.gz").unlink()  # its page that hangs the parser costs a second a run
    output = tmp_path / "out"
    runs.clean(new, output)
    warc.pages(new / "0.warc.gz", [warc.distinct_prose(4), warc.distinct_prose(300)])
    work = output / "work"
    before = runs.times(work, "*/unit-*.warc.gz.json")
    runs.clean(new, output)
    after = runs.times(work, "*/unit-*.warc.gz.json")
    redone = {str(path.relative_to(work)) for path, at in before.items() if after[path] != at}
    assert not [name for name in redone if name.startswith("00-read")]
    exact = [name for name in redone if "-exact_dedup" in name]
    assert [name.partition("/")[2] for name in exact] == ["unit-a.warc.gz.json"]
    fresh = tmp_path / "fresh"
    runs.clean(new, fresh)
    assert runs.contents(output) == runs.contents(fresh)
    rejected = runs.rows(output / "rejected")
    (moved,) = [row for row in rejected if json.loads(row["metadata"])["offset"] and "place 4 " in row["text"]]
    assert (moved["stage"], json.loads(moved["metadata"])["file"]) == ("exact_dedup", "a.warc.gz")


def test_ctrl_c(crawl, tmp_path, runs):
    """One line, code 130, no process left; the next run goes on (see the kill tests)."""
    output = tmp_path / "out"
    more = ["--workers", "2", "--gin.extract.Extract.timeout=60.0"]  # one page keeps the first job busy
    command = [sys.executable, "-m", "beam_pipelines.clean_web", *runs.arguments(crawl, output), *more]
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


def refusal(capsys, argv: list[str]) -> str:
    """The one line of a refused run."""
    capsys.readouterr()
    assert clean_web.main(argv) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


TWO_STAGES = """
CleanWeb.stages = [@ReadWarc(), @Extract()]
"""


@pytest.fixture
def two_stages(tmp_path, warc) -> list[str]:
    """A command line without --output, of one small file and a recipe whose jobs are few."""
    warc.pages(tmp_path / "crawl" / "a.warc.gz", [warc.distinct_prose(1), warc.distinct_prose(2)])
    (tmp_path / "recipe.gin").write_text(TWO_STAGES)
    return ["--input", str(tmp_path / "crawl" / "*.warc.gz"), "--gin_file", str(tmp_path / "recipe.gin")]


def test_an_output_of_something_else_is_refused(crawl, cleaned, tmp_path, capsys, runs):
    output = runs.copy(cleaned, tmp_path / "out")
    before = runs.times(output)
    message = refusal(capsys, runs.arguments(crawl, output, "--gin.MIN_WORDS=49"))
    assert "gopher_quality.min_words: 50 there, 49 now" in message
    assert runs.times(output) == before
    path = output / "work" / "configuration.json"
    path.write_text(path.read_text().replace("resiliparse 2", "resiliparse 1"))
    assert "another code" in refusal(capsys, runs.arguments(crawl, output))
    path.unlink()
    assert "documents of something else" in refusal(capsys, runs.arguments(crawl, output))


def test_a_folder_that_a_failed_start_claimed_is_free(two_stages, tmp_path, capsys):
    output = tmp_path / "out"
    argv = [*two_stages, "--output", str(output)]
    message = refusal(capsys, [*argv, "--runner", "nosuch.Runner", "--gin.extract.Extract.timeout=9.0"])
    assert "nosuch" in message
    assert (output / "work" / "configuration.json").exists()
    assert clean_web.main(argv) == 0
    assert json.loads((output / "stats.json").read_text())["documents"] == 2


def test_an_input_that_is_gone_is_refused(crawl, cleaned, tmp_path, capsys, runs):
    output = runs.copy(cleaned, tmp_path / "out")
    argv = runs.arguments(crawl, output)
    message = refusal(capsys, ["--input", str(crawl / "a*"), str(crawl / "b*"), *argv[2:]])
    assert "documents of c.warc.gz" in message


def test_statistics_of_fewer_inputs_do_not_outlive_an_interruption(two_stages, tmp_path, warc, monkeypatch):
    output = tmp_path / "out"
    argv = [*two_stages, "--output", str(output)]
    assert clean_web.main(argv) == 0
    assert len(json.loads((output / "stats.json").read_text())["inputs"]) == 1
    warc.pages(tmp_path / "crawl" / "d.warc.gz", [warc.distinct_prose(300)])

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("beam_pipelines.web.pipeline.run_job", interrupted)
        assert clean_web.main(argv) == 130
    assert not (output / "stats.json").exists()
    assert clean_web.main(argv) == 0
    assert len(json.loads((output / "stats.json").read_text())["inputs"]) == 2
