"""docs/training.md, "A loss of your own": the module of the page, run through gin and the command line."""

import json
import re
import sys
from pathlib import Path

import pytest

from t5x_style.cli import main
from tests.training.small_run import arguments

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def blocks():
    """(the module, the lines of the run file) as the page has them."""
    section = PAGE.read_text().partition("## A loss of your own")[2]
    module = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    return module, re.search(r"```gin\n(.*?)```", section, re.DOTALL)[1]


def test_it_is_short():
    module, _ = blocks()
    assert len(module.splitlines()) < 40


def test_it_trains(tmp_path, monkeypatch, quick_to_compile):
    module, lines = blocks()
    (tmp_path / "focal.py").write_text(module)
    flags = arguments(tmp_path, f"MODEL_DIR='{tmp_path}/run'", "DataConfig.accumulation=2", "DataConfig.streams=2")
    (tmp_path / "own.gin").write_text(f"include 'run.gin'\n{lines}")
    flags[0] = "--gin_file=own.gin"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert main(["train", *flags]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [row for row in rows if row["kind"] == "train"]
    assert train[-1]["loss"] < train[0]["loss"] < train[0]["nll"]  # every token's loss is below its -log p
    evaluated = [row for row in rows if row["kind"] == "eval"]
    assert {"loss", "nll", "perplexity", "tokens"} <= set(evaluated[-1])
    assert "Focal.gamma = 1.0" in (tmp_path / "run" / "operative.gin").read_text()


def test_a_loss_that_is_never_finite_is_no_success(tmp_path, monkeypatch, capfd, quick_to_compile):
    module, lines = blocks()
    (tmp_path / "focal.py").write_text(module.replace("losses = -(", "losses = jnp.nan * ("))
    flags = arguments(tmp_path, f"MODEL_DIR='{tmp_path}/run'", "STEPS=3", "TrainRun.evaluation=None")
    (tmp_path / "own.gin").write_text(f"include 'run.gin'\n{lines}")
    flags[0] = "--gin_file=own.gin"
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    assert "none of its 3 updates was finite (loss nan): nothing was learned" in capfd.readouterr().err


def test_a_mistake_in_it_is_one_line(tmp_path, monkeypatch, capfd):
    module, lines = blocks()
    (tmp_path / "focal.py").write_text(module)
    flags = arguments(tmp_path, f"MODEL_DIR='{tmp_path}/run'")
    (tmp_path / "own.gin").write_text(f"include 'run.gin'\n{lines}focal.Focal.gama = 2.0\n")
    flags[0] = "--gin_file=own.gin"
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    errors = capfd.readouterr().err
    assert "gama" in errors
    assert "own.gin" in errors
    assert "Traceback" not in errors


@pytest.fixture(autouse=True)
def _forget_module():
    yield
    sys.modules.pop("focal", None)
