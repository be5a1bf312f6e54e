"""docs/training.md, "An objective of your own": the module of the page, run through gin and the command line."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from t5x_style.cli import main
from t5x_style.data import DataConfig, open_loader
from tests.training.small_run import arguments

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def blocks():
    """(the module, the lines of the run file) as the page has them."""
    section = PAGE.read_text().partition("## An objective of your own")[2]
    module = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    return module, re.search(r"```gin\n(.*?)```", section, re.DOTALL)[1]


@pytest.fixture
def crop(tmp_path, monkeypatch):
    """The folder of the module, which can be imported from there."""
    module, lines = blocks()
    assert len(module.splitlines()) < 40
    (tmp_path / "crop.py").write_text(module)
    (tmp_path / "own.gin").write_text(f"include 'run.gin'\n{lines}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("crop", None)


def test_it_trains(crop, quick_to_compile):
    flags = arguments(crop, f"MODEL_DIR='{crop}/run'")
    flags[0] = "--gin_file=own.gin"
    assert main(["train", *flags]) == 0
    rows = [json.loads(line) for line in (crop / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [row["loss"] for row in rows if row["kind"] == "train"]
    assert train[-1] < train[0]
    assert "RandomCrop.most = 24" in (crop / "run" / "operative.gin").read_text()
    (identity,) = {json.dumps(state["identity"]["settings"]["parts"]) for state in loader_states(crop / "run")}
    assert '"class": "RandomCrop", "start_id": null, "most": 24' in identity


def loader_states(run):
    return [json.loads(path.read_text()) for path in run.glob("checkpoints/*/loader/metadata")]


def test_what_it_refuses_is_one_line(crop, capfd):
    flags = arguments(crop, f"MODEL_DIR='{crop}/run'", "crop.RandomCrop.most = 4000")
    flags[0] = "--gin_file=own.gin"
    assert main(["train", *flags]) == 2
    error = capfd.readouterr().err
    assert "RandomCrop.most is 4000, rows have" in error
    assert "Traceback" not in error


def test_crops_are_new_in_every_epoch_and_the_same_after_a_restart(crop):
    arguments(crop)
    monkey = {}
    exec((crop / "crop.py").read_text(), monkey)
    config = DataConfig(
        str(crop / "cache"), "toy", monkey["RandomCrop"](most=8), batch_size=4, length=32, shuffle=False, prefetch=0
    )
    loader = open_loader(config)
    first = [next(loader) for _ in range(40)]
    counters = loader.counters()
    assert counters["read_trimmed"] > 0
    again = open_loader(config)
    for batch in first:
        np.testing.assert_array_equal(next(again)["decoder_target_tokens"], batch["decoder_target_tokens"])
