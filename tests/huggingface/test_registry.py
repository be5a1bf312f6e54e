"""A config.json finds its family module; what is unknown is told with what is known."""

import types

import pytest

from t5x_style.errors import UserError
from t5x_style.huggingface import registry


@pytest.mark.parametrize(
    ("kind", "module"),
    [("llama", "llama"), ("mixtral", "llama"), ("gemma3_text", "gemma"), ("gpt2", "gpt2"), ("mt5", "t5")],
)
def test_model_type_decides(kind, module):
    found = registry.family({"model_type": kind})
    assert found.__name__.endswith(f".families.{module}")


def test_architectures_decide_without_a_model_type():
    assert registry.family({"architectures": ["BloomForCausalLM"]}).__name__.endswith(".bloom")
    assert registry.class_name({"architectures": ["BloomForCausalLM"]}) == "BloomForCausalLM"


def test_class_name():
    assert registry.class_name({"model_type": "bert", "architectures": ["BertForPreTraining"]}) == "BertForMaskedLM"


@pytest.mark.parametrize("settings", [{"model_type": "resnet"}, {}, {"architectures": ["X"]}, {"architectures": None}])
def test_unknown_is_one_line_with_the_known(settings):
    with pytest.raises(UserError, match=r"folder/config\.json: .* is not a known architecture; .*llama.*mt5"):
        registry.family(settings, "folder/config.json")


def test_two_families_of_one_model_type(monkeypatch):
    old = types.SimpleNamespace(MODEL_TYPES={"glm": "OldGlm"}, accepts=lambda settings: settings["layers"] < 9)
    new = types.SimpleNamespace(MODEL_TYPES={"glm": "NewGlm"})
    other = types.SimpleNamespace(MODEL_TYPES={"glm": "OtherGlm"})
    monkeypatch.setattr(registry, "modules", lambda: (old, new, other))
    assert registry.family({"model_type": "glm", "layers": 9}) is new
    assert registry.family({"model_type": "glm", "layers": 9, "architectures": ["OtherGlm"]}) is other
    assert registry.family({"model_type": "glm", "layers": 3, "architectures": ["OldGlm"]}) is old


def test_every_family_has_its_four_functions():
    for module in registry.modules():
        for name in ("from_config", "to_config", "weight_map"):
            assert callable(getattr(module, name)), (module, name)
