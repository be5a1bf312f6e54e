"""Whole runs of a tiny model: resuming, signals, meshes, several processes. Each runs in a process of its own."""

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

PROGRAM = Path(__file__).parent / "small_run.py"
OTHER = "llama.embed_dim=64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Holds the tokenizer, the cache, and one run of 12 steps on one device: `straight`."""
    folder = tmp_path_factory.mktemp("runs")
    finish(start(folder, "MODEL_DIR='{folder}/straight'"))
    return folder


def start(folder, *bindings, devices=1):
    environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    bindings = [binding.replace("{folder}", str(folder)) for binding in bindings]
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), *bindings], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process, code=0):
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors[-3000:]
    return errors


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
    finish(start(folder, "MODEL_DIR='{folder}/straight'"))
    assert (folder / "straight" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_stopped_by_a_signal_and_continued_equals_the_straight_run(folder, number):
    stopped = folder / f"stopped-{number}"
    process = start(folder, f"MODEL_DIR='{stopped}'")
    path = stopped / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (path.exists() and '"step": 3' in path.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    errors = finish(process, 130)
    assert "run the same command again" in errors
    finish(start(folder, f"MODEL_DIR='{stopped}'"))
    np.testing.assert_array_equal(losses(stopped), losses(folder / "straight"))
    np.testing.assert_array_equal(losses(stopped, "eval"), losses(folder / "straight", "eval"))


def test_killed_and_continued_equals_the_straight_run(folder):
    process = start(folder, "MODEL_DIR='{folder}/killed'")
    deadline = time.monotonic() + 120
    while not (folder / "killed" / "checkpoints" / "4").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    finish(start(folder, "MODEL_DIR='{folder}/killed'"))
    np.testing.assert_array_equal(losses(folder / "killed"), losses(folder / "straight"))


@pytest.mark.parametrize(
    "mesh",
    [
        ("MeshConfig.fsdp=8",),
        ("MeshConfig.data=8", "MeshConfig.fsdp=1", "zero.stage=0"),
        ("MeshConfig.fsdp=8", "zero.stage=1"),
        ("MeshConfig.fsdp=8", "zero.stage=2"),
        ("MeshConfig.data=2", "MeshConfig.fsdp=2", "MeshConfig.tensor=2"),
    ],
    ids=["zero3", "data", "zero1", "zero2", "data-fsdp-tensor"],
)
def test_every_layout_gives_the_same_losses(folder, mesh, request):
    """fp32, 12 steps at learning rate up to 1e-3: rounding only, measured below 1e-5 of the loss."""
    name = request.node.callspec.id
    finish(start(folder, f"MODEL_DIR='{{folder}}/{name}'", *mesh, devices=8))
    np.testing.assert_allclose(losses(folder / name), losses(folder / "straight"), rtol=1e-5)


def test_accumulation_gives_the_same_losses(folder):
    """Two streams give the same rows to a step, whether in one microbatch of 8 or in four of 2."""
    finish(start(folder, "MODEL_DIR='{folder}/accumulated'", "DataConfig.accumulation=4", "DataConfig.streams=2"))
    finish(start(folder, "MODEL_DIR='{folder}/two-streams'", "DataConfig.streams=2"))
    np.testing.assert_allclose(losses(folder / "accumulated"), losses(folder / "two-streams"), rtol=1e-5)


def test_two_processes_equal_one_and_their_checkpoint_continues_on_one(folder):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = [f"--coordinator=localhost:{port}", "--num_processes=2"]
    first = [
        start(folder, "MODEL_DIR='{folder}/two'", "STEPS=8", "Cosine.steps=12", *flags, f"--process_id={i}", devices=2)
        for i in range(2)
    ]
    for process in first:
        finish(process)
    np.testing.assert_allclose(losses(folder / "two"), losses(folder / "straight")[:8], rtol=1e-5)
    finish(start(folder, "MODEL_DIR='{folder}/two'"))
    np.testing.assert_allclose(losses(folder / "two"), losses(folder / "straight"), rtol=1e-5)


def test_init_from_starts_with_its_parameters(folder):
    finish(start(folder, "MODEL_DIR='{folder}/tuned'", "TrainRun.init_from='{folder}/straight'", "STEPS=4"))
    assert losses(folder / "tuned")[0] < losses(folder / "straight")[2]


def test_init_from_a_hugging_face_folder_is_init_from_the_model(folder):
    command = [sys.executable, "-m", "t5x_style.huggingface", "export", folder / "straight", folder / "exported"]
    subprocess.run([*command, "--max_shard_size", "50KB"], check=True, capture_output=True)
    for source in ("straight", "exported"):
        model = "MODEL_DIR='{folder}/from_" + source + "'"
        finish(
            start(folder, model, f"TrainRun.init_from='{{folder}}/{source}'", "STEPS=4", "MeshConfig.fsdp=2", devices=2)
        )
    np.testing.assert_array_equal(losses(folder / "from_exported"), losses(folder / "from_straight"))
    other = finish(start(folder, "MODEL_DIR='{folder}/x'", "TrainRun.init_from='{folder}/exported'", OTHER), 2)
    assert "holds another model: embed_dim is 64, not 32; configure the same model" in other


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (("MODEL_DIR='{folder}/straight'", "llama.embed_dim=64"), "embed_dim is 32, configured is 64"),
        (("MODEL_DIR='{folder}/x'", "TrainRun.init_from='{folder}'"), "is no MODEL_DIR"),
        (("MODEL_DIR='{folder}/x'", "TASK='nothing'"), "python -m beam_pipelines.cache_tasks --task nothing"),
        (("MODEL_DIR='{folder}/y'", "llama.vocab_size=100"), "has 128 ids, the model only 100"),
        (("MODEL_DIR='{folder}/x'", "MeshConfig.fsdp=3"), "needs a multiple of 3 devices"),
        (("MODEL_DIR='{folder}/x'", "--num_processes=2"), "go together"),
    ],
)
def test_mistakes_are_one_line(folder, bindings, message):
    errors = finish(start(folder, *bindings), 2)
    assert errors.count("error: ") == 1
    assert message in errors
    assert "Traceback" not in errors


def test_divergence_stops_the_run_with_advice(folder):
    errors = finish(
        start(
            folder, "MODEL_DIR='{folder}/nan'", "PEAK_LEARNING_RATE=1e30", "WARMUP_STEPS=0", "GuardConfig.patience=3"
        ),
        2,
    )
    assert "updates in a row were not finite" in errors
    assert "Traceback" not in errors
