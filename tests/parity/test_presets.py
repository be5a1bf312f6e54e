"""Presets against transformers: equal counts at every published size; tiny models of ours open there, equal logits."""

import importlib
import importlib.util
import json

import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style import models
from t5x_style.huggingface.weights import weight_map
from t5x_style.models.specs import EncoderDecoderConfig
from tests.models.presets.sizes_of import EVERY, FAMILIES, PRESETS
from tests.parity import pairs
from tests.parity.fast import slow_except

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import safetensors.numpy
import torch
import transformers

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4
PUBLISHED = [(preset, size) for preset, size in EVERY if size != "tiny"]


def in_transformers(preset):
    """(family module, model_type, class of the model); None where transformers has no such architecture."""
    module, kind = FAMILIES[preset]
    family = importlib.import_module(f"t5x_style.huggingface.families.{module}")
    return family, kind, getattr(transformers, family.MODEL_TYPES[kind], None)


def untied(config):
    """Whether input and output tables differ."""
    return not (config.decoder if isinstance(config, EncoderDecoderConfig) else config).tied_embeddings


COUNTED = {f"{preset.__name__}-{size}": (preset, size) for preset, size in PUBLISHED}
FIRST = {FAMILIES[preset][0]: name for name, (preset, _) in reversed(COUNTED.items())}  # one a family


@pytest.mark.parametrize(("preset", "size"), slow_except(COUNTED, *FIRST.values()))
def test_transformers_counts_the_same(preset, size):
    family, kind, model_class = in_transformers(preset)
    if model_class is None:
        pytest.skip(f"transformers has no {kind}")
    config = preset(size, vocab_multiple=1)
    settings = family.to_config(config, kind)
    with torch.device("meta"):
        theirs = model_class(model_class.config_class(**settings))
    count = sum(parameter.numel() for parameter in theirs.parameters())
    if theirs.config.tie_word_embeddings and untied(config):
        # transformers 5 ties every T5 and mT5 that it builds, and unties on opening weights with a head of their own
        assert family.__name__.endswith(".t5")
        count += config.vocab_size * config.embed_dim
    assert models.parameter_count(config) == count


OPENED = {preset.__name__: (preset,) for preset in PRESETS}


@pytest.mark.parametrize("preset", slow_except(OPENED, "llama3_1", "t5_v1_1"))
def test_transformers_opens_a_tiny_one(preset, tmp_path):
    family, kind, model_class = in_transformers(preset)
    if model_class is None:
        pytest.skip(f"transformers has no {kind}")
    config = preset("tiny", vocab_size=150)
    model, random = models.abstract(config), np.random.default_rng(0)
    ours = pairs.parameters(model)
    for path, value in ours.items():  # larger than the preset's own, which are too small to show a mistake
        drawn = path.endswith("/scale") + 0.15 * random.normal(size=value.shape)
        value.set_value(jnp.asarray(drawn.astype(np.float32)))
    mapping = family.weight_map(config)
    tensors = dict(weight_map.write({path: np.asarray(value[...]) for path, value in ours.items()}, mapping))
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(family.to_config(config, kind)))
    theirs = model_class.from_pretrained(tmp_path, attn_implementation="eager", dtype=torch.float32).eval()
    tokens = random.integers(3, 150, (2, 40))
    given = {"input_ids": torch.tensor(tokens)}
    inputs = [tokens]
    if isinstance(config, EncoderDecoderConfig):
        decoder = random.integers(3, 150, (2, 30))
        given["decoder_input_ids"] = torch.tensor(decoder)
        inputs.insert(0, decoder)
    with torch.no_grad():
        expected = theirs(**given).logits.numpy()
    logits = np.asarray(pairs.run(pairs.vocabulary_logits, model, *map(jnp.asarray, inputs)))[..., :150]
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 0.5  # or a model of zeros would pass
