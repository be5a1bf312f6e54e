"""The launcher's mistakes: one line, exit code 2, before any device work."""

import subprocess
import sys

import pytest


def train(*arguments):
    command = [sys.executable, "-m", "t5x_style.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


FILE = "--gin_file=runs/quickstart_pretrain.gin"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FILE,), "MODEL_DIR is not set"),
        ((FILE, "--gin.MODEL_DIR=out"), "strings need quotes"),
        ((FILE, "--gin.MODEL_DIR='{tmp}'", "--gin.STEPZ=3"), "STEPZ"),
        ((FILE, "--gin.MODEL_DIR='{tmp}'", "--gin.TrainRun.stepz=3"), "stepz"),
        ((FILE, "--gin.MODEL_DIR='{tmp}'", "--gin.STEPS='many'"), "'many'"),
        ((FILE, "--gin.MODEL_DIR='/proc/nothing'"), "MODEL_DIR '/proc/nothing' cannot be written"),
        ((FILE, "--gin.MODEL_DIR='{tmp}'", "--gin.TOKENIZER='/no/tokenizer.model'"), "/no/tokenizer.model"),
        (("--gin_file=runs/quickstart_pretrian.gin",), "did you mean runs/quickstart_pretrain.gin"),
        (("--gin_flie=x",), "unknown argument"),
        ((), "configure no TrainRun"),
    ],
)
def test_one_line_and_exit_code_2(tmp_path, arguments, message):
    result = train(*(argument.replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
