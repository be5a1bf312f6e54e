"""A run told as a tree, before any device work."""

import pytest

from t5x_style.train import main
from t5x_style.training import describe
from tests.training.small_run import arguments


def dry(folder, *bindings):
    return main(arguments(folder, f"MODEL_DIR='{folder}/run'", "--dry_run", *bindings))


def test_rendered():
    assert describe.rendered({"run": {"a": {"b": {}}, "c": {}}}) == "run\n├── a\n│   └── b\n└── c"


def test_a_run_for_eight_devices_is_told_and_nothing_is_done(tmp_path, capsys):
    assert dry(tmp_path, "--devices=8", "TrainRun.trainable=('*', '!embedding/*')") == 0
    told = capsys.readouterr().out
    for line in (
        "policy: Decoder, 39,072 parameters, 34,976 train",
        "trainable: *, !embedding/*",
        "toy: 100.0% of what is read, 200 examples there, about",
        "mesh of 8 devices",
        "fsdp=8",
        "ZeRO stage 3",
        "12 steps of 256 tokens: 3,072 tokens",
        "frozen parameters: 2.0 KiB",  # the embedding, 128 x 32 in float32, over 8 devices
    ):
        assert line in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--devices=3",), "does not divide over 3 devices"),
        (("--devices=0",), "--devices 0 must be at least 1"),
        (("--devices=2", "MeshConfig.tensor=4"), "needs a multiple of 4 devices"),
        (
            ("--devices=8", "eval/DataConfig.batch_size=12"),
            "make the evaluation's batch_size / accumulation a multiple",
        ),
    ],
)
def test_mistakes(tmp_path, flags, message, capfd):
    assert dry(tmp_path, *flags) == 2
    assert message in capfd.readouterr().err


def test_devices_are_only_for_a_dry_run(tmp_path, capfd):
    assert main(arguments(tmp_path, f"MODEL_DIR='{tmp_path}/run'", "--devices=2")) == 2
    assert "--devices goes with --dry_run" in capfd.readouterr().err
