"""The training core never loads TensorFlow, seqio, Beam or torch; library modules never load gin."""

import subprocess
import sys

import pytest

FORBIDDEN = ("tensorflow", "tensorflow_text", "tensorflow_datasets", "seqio", "apache_beam", "torch")


def loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import t5x_style.train",
        "import t5x_style.training.loop, t5x_style.training.run, t5x_style.data.loader, t5x_style.model_dir",
        "import t5x_style.generate, t5x_style.decoding, t5x_style.models, t5x_style.losses",
        "import t5x_style.quickstart.__main__",
    ],
)
def test_core_imports_no_data_stack(code):
    loaded = loaded_after(code)
    assert "t5x_style" in loaded
    assert not loaded.intersection(FORBIDDEN)
    assert "gin" not in loaded


def test_loading_a_configuration_loads_no_data_stack():
    code = (
        "from t5x_style import config\nfrom t5x_style.training.run import TrainRun\n"
        "run = config.load(TrainRun, ['runs/quickstart_pretrain.gin'], ['MODEL_DIR = \"x\"']).root\n"
        "assert run.steps > 0"
    )
    loaded = loaded_after(code)
    assert "gin" in loaded
    assert not loaded.intersection(FORBIDDEN)


def test_the_launcher_does_not_touch_jax_before_the_configuration_is_read():
    assert "jax" not in loaded_after("import t5x_style, t5x_style.train, t5x_style.evaluate, t5x_style.config")
