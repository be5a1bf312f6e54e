"""What one process has loaded at each stage of a run; what files import, `make lint` sees (pyproject.toml).

The training core loads TensorFlow, seqio, Beam or torch through no library of others; gin only for a configuration;
jax not before a configuration is read.
"""

import json
import subprocess
import sys
import textwrap

import pytest

FORBIDDEN = {"tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio", "apache_beam", "torch", "transformers"}
PROGRAM = textwrap.dedent("""
    import json, sys

    def loaded():
        print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))

    import t5x_style, t5x_style.train, t5x_style.evaluate, t5x_style.config
    loaded()
    import t5x_style.training.loop, t5x_style.training.run, t5x_style.data.loader, t5x_style.model_dir
    import t5x_style.generate, t5x_style.decoding, t5x_style.models, t5x_style.losses, t5x_style.quickstart.__main__
    loaded()
    run = t5x_style.config.load(
        t5x_style.training.run.TrainRun, ["runs/quickstart_pretrain.gin"], ["MODEL_DIR = 'x'"]
    ).root
    assert run.steps > 0
    loaded()
    t5x_style.training.metrics.Writer(sys.argv[1], tensorboard=True).close()
    loaded()
""")


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Top-level modules after importing launchers, the core, after reading a configuration, and writing metrics."""
    command = [sys.executable, "-c", PROGRAM, tmp_path_factory.mktemp("metrics")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    names = ("launchers", "core", "configuration", "metrics")
    return dict(zip(names, (set(json.loads(line)) for line in result.stdout.splitlines()), strict=True))


def test_the_launcher_does_not_touch_jax_before_the_configuration_is_read(stages):
    assert "t5x_style" in stages["launchers"]
    assert "jax" not in stages["launchers"]


def test_core_imports_no_data_stack(stages):
    assert "jax" in stages["core"]
    assert not stages["core"] & FORBIDDEN
    assert "gin" not in stages["core"]


def test_loading_a_configuration_loads_no_data_stack(stages):
    assert "gin" in stages["configuration"]
    assert not stages["configuration"] & FORBIDDEN


def test_writing_tensorboard_events_loads_no_tensorflow(stages):
    assert not stages["metrics"] & FORBIDDEN
