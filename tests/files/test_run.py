"""A whole run whose MODEL_DIR, token cache and tokenizer are on a store: stopped, continued, opened, reported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import t5x_style
from t5x_style import files
from t5x_style.checkpoints import checkpoints
from t5x_style.evaluation import models, perplexity
from t5x_style.evaluation.results import Results
from t5x_style.huggingface.export_model import export_model
from t5x_style.report import write_report
from t5x_style.train import main
from t5x_style.training import metrics, profile
from tests.training import small_run
from tests.training.small_run import arguments

pytestmark = pytest.mark.usefixtures("quick_to_compile")
BINDINGS = (
    "llama.embed_dim=16",
    "llama.mlp_hidden=32",
    "llama.heads=2",
    "llama.kv_heads=1",
    "WARMUP_STEPS=0",
    "Cosine.steps=4",
    "EVAL_EVERY=4",
    "CHECKPOINT_EVERY=2",
)


def losses(model_dir):
    return [(row["step"], row["kind"], row["loss"]) for row in metrics.read(model_dir)]


def run(folder, *bindings):
    return main(arguments(folder, *BINDINGS, *bindings))


def test_a_run_on_a_store_equals_a_local_one(tmp_path, s3_bucket, cache, capsys):
    assert run(tmp_path, f"MODEL_DIR='{tmp_path}/local'", "STEPS=4") == 0
    store = f"{s3_bucket}/whole"
    files.upload(tmp_path / "cache", f"{store}/cache")
    files.upload(tmp_path / "tokenizer", f"{store}/tokenizer")
    remote = [
        f"MODEL_DIR='{store}/run'",
        f"CACHE_DIR='{store}/cache'",
        f"TOKENIZER='{store}/tokenizer/sentencepiece.model'",
        "TrainRun.tensorboard=True",
    ]
    assert run(tmp_path, *remote, "STEPS=2") == 0
    assert run(tmp_path, *remote, "STEPS=4") == 0
    straight = [row for row in losses(tmp_path / "local") if row[0] > 2 or row[1] == "train"]
    assert [row for row in losses(f"{store}/run") if row[0] > 2 or row[1] == "train"] == straight
    assert checkpoints.steps(f"{store}/run") == [2, 4]
    assert len(files.list_names(f"{store}/run/tensorboard")) == 2
    assert len(list((cache / "files").iterdir())) == 5  # two shards of train and of validation, the tokenizer

    tokens = [[5, 6, 7, 8]]
    expected = np.asarray(t5x_style.load_model(tmp_path / "local").logits(tokens))
    loaded = t5x_style.load_model(f"{store}/run")
    assert (loaded.path, loaded.step) == (f"{store}/run", 4)
    assert loaded.tokenizer.size == 128
    np.testing.assert_array_equal(np.asarray(loaded.logits(tokens)), expected)

    (model,) = models.named([f"{store}/run"], None)
    assert (model.name, model.step) == ("run", 4)
    assert model.identity() == models.Named("run", f"{store}/run", 4).identity()
    manifest, documents = perplexity.read_documents(f"{store}/cache", "toy", "validation", None)
    assert (manifest.examples, len(documents)) == (20, 20)
    Results(f"{store}/evaluation.json").save()
    assert Results(f"{store}/evaluation.json").content["models"] == {}

    export_model(f"{store}/run", tmp_path / "exported")
    files.upload(tmp_path / "exported", f"{store}/exported")
    opened = t5x_style.load_model(f"{store}/exported")
    np.testing.assert_allclose(np.asarray(opened.logits(tokens)), expected, rtol=1e-5, atol=1e-5)

    assert write_report(f"{store}/run") == f"{store}/run/report.html"
    assert f"Model {store}/run." in files.read_text(f"{store}/run/report.html")

    capsys.readouterr()
    assert run(tmp_path, f"MODEL_DIR='{s3_bucket}-gone/run'", "STEPS=4") == 2
    assert "error: MODEL_DIR cannot be written: s3://" in capsys.readouterr().err
    with pytest.raises(t5x_style.errors.UserError, match=rf"^'{store}/nothing' does not exist; give a MODEL_DIR"):
        t5x_style.load_model(f"{store}/nothing")


@pytest.mark.slow
def test_killed_while_it_writes_to_a_store_and_continued(tmp_path, s3_bucket):
    """Equal to the straight run; the next process removes what the killed one staged."""
    store = f"{s3_bucket}/killed"
    settings = [*BINDINGS, "Cosine.steps=12", "CHECKPOINT_EVERY=1", "EVAL_EVERY=20"]
    assert main(arguments(tmp_path, *settings, f"MODEL_DIR='{tmp_path}/local'")) == 0
    command = [sys.executable, Path(small_run.__file__), tmp_path, *settings, f"MODEL_DIR='{store}'"]
    process = subprocess.Popen(command, env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})
    while not checkpoints.steps(store):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert checkpoints.steps(store)[-1] < 12
    assert main(arguments(tmp_path, *settings, f"MODEL_DIR='{store}'")) == 0
    assert losses(store) == losses(tmp_path / "local")
    assert len(list((tmp_path / "local_cache" / "sessions").iterdir())) == 2  # our own and the gate's lock


def test_a_run_in_memory_starts_from_it(tmp_path):
    model_dir = f"memory://{tmp_path.name}/run"
    assert run(tmp_path, f"MODEL_DIR='{model_dir}'", "STEPS=4") == 0
    assert [row[:2] for row in losses(model_dir)] == [(step, "train") for step in range(1, 5)] + [(4, "eval")]
    assert json.loads(files.read_text(files.join(model_dir, "model.json")))
    started = [f"MODEL_DIR='{tmp_path}/next'", f"TrainRun.init_from='{model_dir}'", "PEAK_LEARNING_RATE=0.0"]
    assert run(tmp_path, *started, "STEPS=1") == 0
    tokens = [[5, 6, 7, 8]]
    before, after = (np.asarray(t5x_style.load_model(path).logits(tokens)) for path in (model_dir, tmp_path / "next"))
    np.testing.assert_array_equal(before, after)


def test_metrics_on_a_store_resume_and_survive_a_kill(root, monkeypatch):
    writer = metrics.Writer(root, tensorboard=False)
    writer.write(1, "train", {"loss": 1.0})
    assert metrics.read(root) == []
    writer.flush()
    writer.write(2, "train", {"loss": 2.0})
    assert [row["step"] for row in metrics.read(root)] == [1]  # a kill now loses step 2, which is run again
    monkeypatch.setattr(metrics, "FLUSH_SECONDS", 0.0)
    writer.write(3, "train", {"loss": float("nan")})
    assert [row["loss"] for row in metrics.read(root)] == [1.0, 2.0, None]
    writer = metrics.Writer(root, resume_step=2)
    writer.write(3, "train", {"loss": 9.0})
    writer.close()
    assert [row["loss"] for row in metrics.read(root)] == [1.0, 2.0, 9.0]
    (events,) = files.list_names(files.join(root, "tensorboard"))
    assert "tfevents" in events


def test_a_trace_is_uploaded_when_it_stops(root, monkeypatch):
    """A real one takes JAX's profiler eight seconds to write."""
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: Path(folder, "trace").write_text("of a step"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
    trace = profile.Trace(root)
    trace.start()
    trace.stop()
    trace.stop()
    assert files.folder_of_files(root) == {"profile/trace": 9}
