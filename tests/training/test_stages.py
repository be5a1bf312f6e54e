"""A run whose data changes at steps: shapes, programs, and a restart within a stage and over a switch."""

import json

import numpy as np
import pytest

from t5x_style.train import main
from tests.training.small_run import arguments

STAGES = (
    "train/DataConfig.stages=[@short/Stage(), @wide/Stage()]",
    "short/Stage.step=5",
    "short/Stage.length=16",
    "wide/Stage.step=9",
    "wide/Stage.batch_size=16",
    "TrainRun.evaluation=None",
    "AdamW.schedule=@Constant()",
)


def rows_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows if row["kind"] == "train"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("staged")


def train(folder, name, *bindings):
    return main(arguments(folder, f"MODEL_DIR='{folder}/{name}'", *STAGES, *bindings))


def test_a_restart_is_exact_within_a_stage_and_over_a_switch(folder, quick_to_compile, capfd):
    assert train(folder, "whole") == 0
    for steps in (4, 8, 12):  # checkpoints at 4, before the first switch, and at 8, before the second
        assert train(folder, "parts", f"STEPS={steps}") == 0
    whole, parts = rows_of(folder / "whole"), rows_of(folder / "parts")
    assert sorted(whole) == sorted(parts) == list(range(1, 13))
    np.testing.assert_array_equal([whole[step] for step in whole], [parts[step] for step in whole])
    state = json.loads((folder / "whole" / "checkpoints" / "12" / "loader" / "metadata").read_text())
    assert [len(stream["switches"]) for stream in state["streams"].values()] == [2] * 8
    # A stage that has begun may not go; the streams are the checkpoint's, whatever the batch size would choose.
    capfd.readouterr()
    fewer = ["train/DataConfig.stages=[@short/Stage()]", *STAGES[1:3], *STAGES[5:]]
    assert main(arguments(folder, f"MODEL_DIR='{folder}/whole'", "STEPS=14", *fewer)) == 2
    assert "steps of stages = [5, 9], the run has [5]" in capfd.readouterr().err
