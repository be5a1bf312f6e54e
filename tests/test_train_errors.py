"""The launcher's mistakes: one line, exit code 2, before any device work."""

import os
import subprocess
import sys

import pytest

from t5x_style.train import main

FILE = "--gin_file=runs/quickstart_pretrain.gin"


def assert_one_line(errors, message):
    lines = [line for line in errors.splitlines() if line.strip()]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    assert message in lines[0]


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
    ],
)
def test_one_line_and_exit_code_2(tmp_path, arguments, message, capfd):
    assert main([argument.replace("{tmp}", str(tmp_path)) for argument in arguments]) == 2
    assert_one_line(capfd.readouterr().err, message)


def test_so_does_a_process_and_touches_no_device(tmp_path):
    """jax would say that the platform does not exist. The first call: no file has told gin of TrainRun before."""
    program = "from t5x_style.train import main; raise SystemExit((main([]), main()) != (2, 2))"
    arguments = [FILE, f"--gin.MODEL_DIR='{tmp_path}'", "--gin.TOKENIZER='/no/tokenizer.model'"]
    environment = {**os.environ, "JAX_PLATFORMS": "nothing"}
    command = [sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    nothing, tokenizer = result.stderr.splitlines()
    assert_one_line(nothing, "configure no TrainRun")
    assert_one_line(tokenizer, "/no/tokenizer.model")
