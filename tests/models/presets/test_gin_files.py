"""Every file of gin/models builds its model abstractly, has the parameters its header states, and is in the docs."""

import dataclasses
import re

import pytest

from t5x_style import config as gin_files
from t5x_style import models
from t5x_style.models import specs as parts
from tests.models.presets import table
from tests.models.presets.sizes_of import PRESETS

FILES = {model.path.stem: model for model in table.gin_models()}


@dataclasses.dataclass(frozen=True)
class TrainRun:
    """Stands for the real one: a model file that binds anything but the model is an error."""

    model: object


NAMES = {**gin_files.NAMES, "TrainRun": f"{TrainRun.__module__}.TrainRun"}


def model_of(path):
    """The model that a file binds."""
    return gin_files.load(TrainRun, [str(path)], names=NAMES).root.model


def unpadded(config):
    """The configuration without rows that only pad the vocabulary."""
    if isinstance(config, parts.EncoderDecoderConfig):
        return dataclasses.replace(config, encoder=unpadded(config.encoder), decoder=unpadded(config.decoder))
    if not hasattr(config, "vocab_multiple"):
        return config
    return dataclasses.replace(config, vocab_multiple=1)


def parameters():
    """Of each preset the first file and the tiny one are fast; the others are counted in the same way."""
    seen = set()
    for name, model in FILES.items():
        yield pytest.param(name, marks=pytest.mark.slow if model.preset in seen and model.size != "tiny" else ())
        seen.add(model.preset)


@pytest.mark.parametrize("name", parameters())
def test_states_its_parameters(name):
    stated = FILES[name]
    config = model_of(stated.path)
    assert stated.parameters is not None, f"{stated.path.name} has no line `# Parameters: N`"
    assert models.parameter_count(unpadded(config)) == stated.parameters
    if stated.size == "tiny":
        assert stated.parameters <= 500_000


def test_every_file_binds_a_model_and_nothing_else():
    for stated in FILES.values():
        assert model_of(stated.path) is not None, stated.path.name


def test_files_are_named_after_preset_and_size():
    for name, model in FILES.items():
        if model.size is not None:
            wanted = f"{model.preset}_{model.size}"
            assert re.sub("[-.]", "_", name) == re.sub("[-.]", "_", wanted), model


def test_the_vocabulary_is_a_macro():
    for model in FILES.values():
        assert "VOCAB_SIZE = " in model.path.read_text(), model.path.name
        assert f"{model.preset}.vocab_size = %VOCAB_SIZE" in model.path.read_text(), model.path.name


def test_every_published_size_has_a_file():
    found = {(model.preset, model.size) for model in FILES.values()}
    for preset, sizes in PRESETS.items():
        for size in sizes:
            assert (preset.__name__, size) in found


def test_the_page_holds_the_table_of_now():
    page = table.PAGE.read_text()
    assert table.written(page) == page, "run `python -m tests.models.presets.table`"
