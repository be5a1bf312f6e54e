"""Choosing a runner and splitting the command line between us, gin and Beam."""

import argparse
import os
import signal
import subprocess
import sys
import time

import pytest

from beam_pipelines.jobs import runners
from beam_pipelines.jobs.runners import Runner, split_arguments
from beam_pipelines.jobs.unit import Unit
from t5x_style.errors import UserError


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="clean_web", allow_abbrev=False)
    made.add_argument("--input", nargs="+")
    runners.add_arguments(made)
    return made


def test_split():
    ours = ["--input", "a", "b", "--gin.X=1", "--runner", "DataflowRunner", "--gin.Y", "'z'"]
    beams = ["--project=p", "--region", "us-east1", "--experiments=a"]
    assert split_arguments(parser(), [*ours[:3], *beams[:1], *ours[3:], *beams[1:]]) == (ours, beams)
    assert split_arguments(parser(), ours) == (ours, [])


def test_a_value_that_stands_on_both_sides_stays_in_place():
    own, beams = split_arguments(parser(), ["--input", "p", "--project", "p"])
    assert own == ["--input", "p"]
    assert beams == ["--project", "p"]


@pytest.mark.parametrize("wrong", ["--inptu=a", "--projetc=p", "stray"])
def test_unknown_options_are_errors(wrong):
    with pytest.raises(UserError, match="unknown argument"):
        split_arguments(parser(), ["--runner", "local", wrong])


@pytest.mark.parametrize(
    ("name", "workers", "message"),
    [("PrismRunner", 1, "Prism"), ("local", 0, "at least 1"), ("DataflowRunner", 4, "own Beam options")],
)
def test_runners_that_are_refused(name, workers, message):
    with pytest.raises(UserError, match=message):
        Runner(name, workers)


def test_a_runner_that_does_not_exist(tmp_path):
    with Runner("NoSuchRunner") as runner, pytest.raises(UserError, match="NoSuchRunner"):
        runner.run_units("x", [], print, str(tmp_path))


def test_the_direct_runner_is_ours():
    assert Runner("DirectRunner").kind == runners.LOCAL  # Beam's own choice could be Prism


SCRIPT = """
import os, sys, time
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit

def work(unit):
    open(sys.argv[1] + "/" + unit.name, "w").write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    with Runner(workers=2) as runner:
        runner.run_units("x", [Unit("a", ""), Unit("b", "")], work, sys.argv[1])
"""


def test_workers_do_not_outlive_a_killed_driver(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    driver = subprocess.Popen([sys.executable, str(tmp_path / "script.py"), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = [int((tmp_path / name).read_text()) for name in "ab"]
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while time.monotonic() < deadline and any(os.path.exists(f"/proc/{pid}") for pid in workers):
        time.sleep(0.1)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in workers)


def _die(unit: Unit) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"a worker process was killed.*run the same command again"):  # noqa: SIM117
        with Runner(workers=2) as runner:
            runner.run_units("x", [Unit("a", ""), Unit("b", "")], _die, str(tmp_path))
