"""The main job at reduced size: interrupted once, continued by the same command, its results checked."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def start(output: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "t5x_style.quickstart", "--size", "small", "--output", str(output)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=dict(os.environ)
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that was interrupted while it cleaned or later, and then continued."""
    output = tmp_path_factory.mktemp("quickstart") / "run with space"
    process = start(output)
    deadline = time.monotonic() + 240
    while not (output / "crawl" / "crawl.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "run the same command again" in errors
    process = start(output)
    out, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    assert "crawl: record this machine's documentation as WARC files: done before" in errors
    assert str(output / "tune" / "report.html") in out
    return output


def test_the_funnel_adds_up(finished):
    stats = json.loads((finished / "web" / "stats.json").read_text())
    previous = None
    for stage in stats["stages"]:
        assert stage["in"] == stage["kept"] + sum(stage["rejected"].values())
        assert previous is None or stage["in"] == previous
        previous = stage["kept"]
    import pyarrow.dataset

    documents = pyarrow.dataset.dataset(finished / "web" / "documents", format="parquet").count_rows()
    rejected = pyarrow.dataset.dataset(finished / "web" / "rejected", format="parquet").count_rows()
    assert documents == previous
    assert documents + rejected == stats["stages"][0]["in"]


def test_both_runs_reached_their_last_step_and_learned(finished):
    for folder in ("pretrain", "tune"):
        rows = [json.loads(line) for line in (finished / folder / "metrics.jsonl").read_text().splitlines()]
        evaluations = [row for row in rows if row["kind"] == "eval"]
        assert evaluations[-1]["loss"] < evaluations[0]["loss"]
        assert (finished / folder / "model.json").exists()
        assert "TrainRun.steps" in (finished / folder / "operative.gin").read_text()


def test_report_is_self_contained(finished):
    html = (finished / "tune" / "report.html").read_text()
    assert html.count("<svg") + html.count("data:image/png;base64") >= 3
    assert 'src="http' not in html
    assert "<link" not in html


def test_evaluation_covers_every_group(finished):
    from tasks.documentation import EVALUATIONS

    content = json.loads((finished / "evaluation.json").read_text())
    assert [group["name"] for group in content["groups"]] == list(EVALUATIONS)
    for model in ("base", "tuned"):
        tasks = content["models"][model]["tasks"]
        for group in content["groups"]:
            assert group["tasks"]
            assert set(group["tasks"]) <= set(tasks)
        assert content["models"][model]["perplexity"]["documents"]["metrics"]


def test_a_third_run_does_nothing(finished):
    process = start(finished)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.count("done before") == 9


def test_wrong_arguments():
    def run(*arguments):
        command = [sys.executable, "-m", "t5x_style.quickstart", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    nothing = run("--input", "/nowhere/*.warc.gz", "--output", "/tmp")
    assert nothing.returncode == 2
    assert nothing.stderr.startswith("error: --input '/nowhere/*.warc.gz' matches no file")
    unwritable = run("--output", "/proc/quickstart")
    assert unwritable.returncode == 2
    assert "cannot be written" in unwritable.stderr
