"""Presets of encoders against transformers' configurations: equal where its defaults are a published size."""

import importlib.util

import pytest

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch
import transformers

from t5x_style import models
from t5x_style.huggingface import registry
from t5x_style.models.presets import albert, bert, roberta

pytestmark = pytest.mark.parity
# roberta-base's config.json; the class has BERT's numbers of positions and types and BERT's epsilon by default
ROBERTA_BASE = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
CASES = [
    (bert.bert, "base", "BertConfig", {}),
    (roberta.roberta, "base", "RobertaConfig", ROBERTA_BASE),
    (albert.albert, "xxlarge", "AlbertConfig", {}),
    (albert.albert, "base", "AlbertConfig", {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}),
]


@pytest.mark.parametrize(
    ("preset", "size", "name", "changes"), CASES, ids=lambda value: getattr(value, "__name__", None)
)
def test_preset_is_their_configuration(preset, size, name, changes):
    settings = getattr(transformers, name)(**changes)
    family = registry.family(settings.to_dict())
    config = preset(size)
    assert family.from_config(settings.to_dict()) == config
    with torch.device("meta"):
        theirs = getattr(transformers, family.MODEL_TYPES[settings.model_type])(settings)
    counted = {id(parameter): parameter.numel() for parameter in theirs.parameters()}
    assert models.parameter_count(preset(size, vocab_multiple=1)) == sum(counted.values())
