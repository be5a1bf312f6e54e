"""Whole runs of a tiny model: resuming, signals, meshes, several processes.

On one device they run in this process; all layouts of eight devices in one other, layouts.py; signals, kills and
several processes in theirs.
"""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from t5x_style.huggingface.__main__ import main as huggingface
from t5x_style.train import main
from tests.training.small_run import arguments

PROGRAM = Path(__file__).parent / "small_run.py"
LAYOUTS = {
    "zero3": ["MeshConfig.fsdp=8"],
    "data": ["MeshConfig.data=8", "MeshConfig.fsdp=1", "MeshConfig.zero_stage=0"],
    "zero1": ["MeshConfig.fsdp=8", "MeshConfig.zero_stage=1"],
    "zero2": ["MeshConfig.fsdp=8", "MeshConfig.zero_stage=2"],
    "data-fsdp-tensor": ["MeshConfig.data=2", "MeshConfig.fsdp=2", "MeshConfig.tensor=2"],
}
REFUSED = {
    "idle": ["MeshConfig.fsdp=1", "MeshConfig.stage=8"],
    "length": ["MeshConfig.fsdp=1", "MeshConfig.context=8", "LENGTH=36"],  # its evaluation's too
}
SLOW = {"data", "zero1"}
QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # see quick_to_compile in tests/conftest.py
FOUR = ["STEPS=4", "Cosine.steps=12"]  # the first steps of the straight run, by its programs
OTHER = "llama.embed_dim=64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the tokenizer, the cache, and one run of 12 steps on one device: `straight`."""
    folder = tmp_path_factory.mktemp("runs")
    assert train(folder, "MODEL_DIR='{folder}/straight'") == 0
    return folder


@pytest.fixture(scope="module")
def eight_devices(folder):
    """name -> exit code or traceback of a layout, or of a zero3 run that starts from `straight` or its export.

    "errors": what the process said.

    Those of the fast tests run in one process, without XLA's expensive passes; the slow ones in one, with them.
    """

    @functools.cache
    def results(slow):
        runs = {name: bindings for name, bindings in LAYOUTS.items() if (name in SLOW) == slow}
        if not slow:
            runs |= REFUSED
            options = ["--max_shard_size", "50KB"]
            assert huggingface(["export", str(folder / "straight"), str(folder / "exported"), *options]) == 0
            for source in ("straight", "exported"):
                runs[f"from_{source}"] = [*LAYOUTS["zero3"], *FOUR, f"TrainRun.init_from='{folder / source}'"]
        command = [sys.executable, PROGRAM.with_name("layouts.py"), folder, json.dumps(runs)]
        environment = os.environ if slow else os.environ | QUICK
        errors = finish(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        return json.loads((folder / "layouts.json").read_text()) | {"errors": errors}

    return lambda name: results(name in SLOW)[name]


def train(folder, *bindings):
    """Runs in this process; returns the exit code."""
    return main(arguments(folder, *(binding.replace("{folder}", str(folder)) for binding in bindings)))


def start(folder, *bindings, **environment):
    """Starts a run in a process of its own."""
    bindings = [binding.replace("{folder}", str(folder)) for binding in bindings]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), *bindings],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    _, errors = process.communicate(timeout=600)
    assert process.returncode == code, errors[-3000:]
    return errors


def wait_for(process, reached):
    """Waits until `reached()`, while the process runs."""
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(folder, kind="train"):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


def losses(folder, kind="train"):
    return np.array([row["loss"] for row in rows(folder, kind)])


def test_run_learns_and_writes_everything(folder):
    found = folder / "straight"
    assert [row["step"] for row in rows(found)] == list(range(1, 13))
    assert losses(found)[-1] < losses(found)[0] - 0.1
    assert [row["step"] for row in rows(found, "eval")] == [6, 12]
    for name in ("model.json", "operative.gin", "config.gin", "tokenizer/sentencepiece.model"):
        assert (found / name).stat().st_size > 0
    steps = sorted(int(path.name) for path in (found / "checkpoints").iterdir())
    assert steps == [8, 12]
    for item in ("params", "optimizer", "extra", "loader", "metadata"):
        assert (found / "checkpoints" / "12" / item).exists()


def test_finished_run_does_nothing_more(folder):
    before = (folder / "straight" / "metrics.jsonl").read_bytes()
    assert train(folder, "MODEL_DIR='{folder}/straight'") == 0
    assert (folder / "straight" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="ctrl-c", marks=pytest.mark.slow), pytest.param(signal.SIGTERM, id="sigterm")],
)
def test_stopped_by_a_signal_and_continued_equals_the_straight_run(folder, number):
    stopped = folder / f"stopped-{number}"
    process = start(folder, f"MODEL_DIR='{stopped}'")
    path = stopped / "metrics.jsonl"
    wait_for(process, lambda: path.exists() and '"step": 3' in path.read_text())
    process.send_signal(number)
    errors = finish(process, 130)
    assert "run the same command again" in errors
    assert train(folder, f"MODEL_DIR='{stopped}'") == 0
    np.testing.assert_array_equal(losses(stopped), losses(folder / "straight"))
    np.testing.assert_array_equal(losses(stopped, "eval"), losses(folder / "straight", "eval"))


def test_killed_and_continued_equals_the_straight_run(folder):
    process = start(folder, "MODEL_DIR='{folder}/killed'")
    wait_for(process, (folder / "killed" / "checkpoints" / "4").exists)
    process.kill()
    process.communicate()
    assert train(folder, "MODEL_DIR='{folder}/killed'") == 0
    np.testing.assert_array_equal(losses(folder / "killed"), losses(folder / "straight"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in LAYOUTS]
)
def test_every_layout_gives_the_same_losses(folder, eight_devices, name):
    """fp32, 12 steps at learning rate up to 1e-3: rounding only, measured below 1e-5 of the loss."""
    assert eight_devices(name) == 0
    np.testing.assert_allclose(losses(folder / name), losses(folder / "straight"), rtol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_mesh_that_the_run_cannot_use_is_refused_before_it_starts(folder, eight_devices, name):
    """Which meshes, for which models and data: test_mesh_use.py."""
    assert eight_devices(name) == 2
    said = {
        "idle": "MeshConfig.stage=8: nothing of policy",
        "length": "MeshConfig.context=8: decoder rows of 36 tokens",
    }
    assert said[name] in eight_devices("errors")
    assert not (folder / name / "checkpoints").exists()


def test_accumulation_gives_the_same_losses(folder):
    """Two streams give the same rows to a step, whether in one microbatch of 8 or in four of 2."""
    assert train(folder, "MODEL_DIR='{folder}/accumulated'", "DataConfig.accumulation=4", "DataConfig.streams=2") == 0
    assert train(folder, "MODEL_DIR='{folder}/two-streams'", "DataConfig.streams=2") == 0
    np.testing.assert_allclose(losses(folder / "accumulated"), losses(folder / "two-streams"), rtol=1e-5)


def test_two_processes_equal_one_and_their_checkpoint_continues_on_one(folder):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = [f"--coordinator=localhost:{port}", "--num_processes=2"]
    bindings = ["MODEL_DIR='{folder}/two'", "STEPS=8", "Cosine.steps=12", "eval/DataConfig.batch_size=16", *flags]
    devices = "--xla_force_host_platform_device_count=2"
    for process in [start(folder, *bindings, f"--process_id={i}", XLA_FLAGS=devices, **QUICK) for i in range(2)]:
        finish(process)
    np.testing.assert_allclose(losses(folder / "two"), losses(folder / "straight")[:8], rtol=1e-5)
    one, two = (rows(folder / name, "eval")[0] for name in ("straight", "two"))
    assert two["tokens"] == one["tokens"]  # also with rows of evaluation that are not those of training
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert train(folder, "MODEL_DIR='{folder}/two'") == 0
    np.testing.assert_allclose(losses(folder / "two"), losses(folder / "straight"), rtol=1e-5)


def test_init_from_starts_with_its_parameters(folder):
    assert train(folder, "MODEL_DIR='{folder}/tuned'", "TrainRun.init_from='{folder}/straight'", *FOUR) == 0
    assert losses(folder / "tuned")[0] < losses(folder / "straight")[2]


def test_init_from_a_hugging_face_folder_is_init_from_the_model(folder, eight_devices, capfd):
    assert (eight_devices("from_straight"), eight_devices("from_exported")) == (0, 0)
    assert losses(folder / "from_straight")[0] < losses(folder / "straight")[2]
    np.testing.assert_array_equal(losses(folder / "from_exported"), losses(folder / "from_straight"))
    kept, given = (folder / "from_exported" / "huggingface", folder / "exported")
    assert (kept / "config.json").read_bytes() == (given / "config.json").read_bytes()
    capfd.readouterr()
    assert train(folder, "MODEL_DIR='{folder}/x'", "TrainRun.init_from='{folder}/exported'", OTHER) == 2
    assert "holds another model: embed_dim is 64, not 32; leave the model out" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (("MODEL_DIR='{folder}/straight'", "llama.embed_dim=64"), "embed_dim is 64, not 32; use another folder"),
        (("MODEL_DIR='{folder}/x'", "TrainRun.init_from='{folder}'"), "is no MODEL_DIR"),
        (("MODEL_DIR='{folder}/x'", "TASK='nothing'"), "python -m beam_pipelines.cache_tasks --task nothing"),
        (("MODEL_DIR='{folder}/y'", "llama.vocab_size=100"), "has 128 ids, the model only 100"),
        (("MODEL_DIR='{folder}/x'", "MeshConfig.fsdp=3"), "needs 3 devices, there are 1"),
        (("MODEL_DIR='{folder}/x'", "--num_processes=2"), "go together"),
        (
            ("MODEL_DIR='{folder}/x'", "MeshConfig.fsdp=1", "MeshConfig.data=1", "eval/DataConfig.batch_size=0"),
            "DataConfig.batch_size is 0",
        ),
    ],
)
def test_mistakes_are_one_line(folder, bindings, message, capfd):
    capfd.readouterr()
    assert train(folder, *bindings) == 2
    errors = capfd.readouterr().err
    assert errors.count("error: ") == 1
    assert message in errors
    assert "Traceback" not in errors


def test_divergence_stops_the_run_with_advice(folder, capfd):
    run = ["MODEL_DIR='{folder}/nan'", "PEAK_LEARNING_RATE=1e30", "WARMUP_STEPS=0", "GuardConfig.patience=3"]
    capfd.readouterr()
    assert train(folder, *run) == 2
    errors = capfd.readouterr().err
    assert "updates in a row were not finite" in errors
    assert "Traceback" not in errors
