"""A MODEL_DIR that version 0.1 wrote, before the training step was rebuilt: it opens, starts a run, and exports.

tests/fixtures/model_dir_0.1 is what tests/training/small_run.py left after 4 steps; expected.json beside it holds the
logits that the same code computed.
"""

import json
import shutil
from pathlib import Path

import numpy as np

import t5x_style
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.huggingface.export_model import export_model
from t5x_style.train import main
from tests.training.small_run import arguments

FIXTURES = Path(__file__).parent / "fixtures"
OLD = FIXTURES / "model_dir_0.1"
EXPECTED = json.loads((FIXTURES / "model_dir_0.1_expected.json").read_text())
SIZE = ("llama.embed_dim=16", "llama.mlp_hidden=32", "llama.heads=2", "llama.kv_heads=1")


def last_logits(path):
    """float32 [rows, 128] at the last position of the expected rows."""
    return np.asarray(t5x_style.load_model(path).logits(EXPECTED["tokens"]))[:, -1, :128]


def test_load_model_opens_it():
    np.testing.assert_allclose(last_logits(OLD), EXPECTED["last_logits"], rtol=1e-5, atol=1e-5)


def test_it_exports_and_the_export_has_the_same_logits(tmp_path):
    export_model(OLD, tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (config["model_type"], config["hidden_size"]) == ("llama", 16)
    np.testing.assert_allclose(last_logits(tmp_path / "exported"), EXPECTED["last_logits"], rtol=1e-5, atol=1e-5)


def test_a_run_starts_from_it(tmp_path):
    """One step at learning rate 0 writes its parameters back as they were."""
    shutil.copytree(OLD / "tokenizer", tmp_path / "tokenizer")
    run = [f"MODEL_DIR='{tmp_path}/run'", f"TrainRun.init_from='{OLD}'", "STEPS=1", "WARMUP_STEPS=0"]
    run.append("PEAK_LEARNING_RATE=0.0")
    assert main(arguments(tmp_path, *run, *SIZE)) == 0
    shape = parameters.flat(stored(OLD))
    found = parameters.flat(stored(tmp_path / "run"))
    assert found.keys() == shape.keys()
    for name, value in shape.items():
        np.testing.assert_array_equal(found[name], value)


def stored(model_dir):
    """The newest checkpoint's parameters as NumPy arrays."""
    import orbax.checkpoint as ocp

    path = model_dir.absolute() / checkpoints.FOLDER / str(checkpoints.steps(model_dir)[-1]) / "params"
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path)
