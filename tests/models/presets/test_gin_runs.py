"""A model file and a run's frame together are a TrainRun, as docs/model_presets.md has it."""

import re

import pytest

from t5x_style import config
from t5x_style.errors import UserError
from t5x_style.models.presets.gpt3 import gpt3
from t5x_style.models.presets.llama import llama2
from t5x_style.models.presets.mixtral import mixtral
from t5x_style.models.specs import DropoutSpec, Execution
from t5x_style.training.run import TrainRun

FRAME = ["runs/frame.gin", "objectives/causal_lm.gin"]
BINDINGS = [
    "MODEL_DIR = 'out'",
    "CACHE_DIR = 'cache'",
    "TOKENIZER = 'sentencepiece.model'",
    "TASK = 'documents'",
    "STEPS = 10",
    "WARMUP_STEPS = 1",
    "PEAK_LEARNING_RATE = 1e-3",
    "BATCH_SIZE = 8",
    "LENGTH = 64",
    "EVAL_EVERY = 5",
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("llama2_70b", llama2("70b")), ("gpt3_175b", gpt3("175b")), ("mixtral_tiny", mixtral("tiny"))],
)
def test_a_model_file_makes_a_run(name, expected):
    files = [f"models/{name}.gin", *FRAME]
    run = config.load(TrainRun, files, BINDINGS).root
    assert run.model == expected
    assert run.policy.compute == "float32"
    assert config.load(TrainRun, [*files, "precision/bfloat16.gin"], BINDINGS).root.policy.compute == "bfloat16"


def test_large_models_name_their_precision():
    for path in (config.find_gin_file("models/llama2_7b.gin").parent).glob("*.gin"):
        text = path.read_text()
        parameters = int(re.search(r"^# Parameters: +([\d,]+)$", text, re.MULTILINE)[1].replace(",", ""))
        assert "# Precision:  gin/precision/bfloat16.gin" in text or parameters < 1_000_000_000, path.name


def test_options_and_the_vocabulary_are_bindings():
    extra = ["VOCAB_SIZE = 32001", "llama.llama2.vocab_multiple = 64"]
    run = config.load(TrainRun, ["models/llama2_tiny.gin", *FRAME], BINDINGS + extra).root
    assert run.model == llama2("tiny", vocab_size=32001, vocab_multiple=64)


def test_dropout_and_execution_are_bindings_of_any_launch():
    extra = ["llama2.dropout = @DropoutSpec()", "DropoutSpec.residual = 0.1", "Execution.attention = 'xla'"]
    run = config.load(TrainRun, ["models/llama2_tiny.gin", *FRAME], BINDINGS + extra).root
    assert run.model == llama2("tiny", dropout=DropoutSpec(residual=0.1))
    assert run.execution == Execution(attention="xla")


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("llama.llama2.size = '8b'", "llama2: size '8b' is not known; choose one of tiny, 7b, 13b, 70b"),
        ("llama.llama2.depth = 3", "depth"),
    ],
)
def test_mistakes_are_one_line(binding, message):
    with pytest.raises(UserError, match=message) as caught:
        config.load(TrainRun, ["models/llama2_tiny.gin", *FRAME], [*BINDINGS, binding])
    assert "\n" not in str(caught.value)
