"""What an exported config.json says: all that the source said and the model does not contradict, in every family."""

import dataclasses
import json
import pathlib

import pytest

from t5x_style.huggingface import export_settings, matching, registry
from t5x_style.huggingface.folder import config_of
from tests.huggingface.conftest import FAMILIES, LLAMA

PUBLISHED = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
QWEN3 = PUBLISHED["Qwen/Qwen3-0.6B"]
TABLE = {**PUBLISHED, **FAMILIES, "qwen3-biases": {**QWEN3, "attention_bias": True}}
# What says the same as settings that the source has under another name.
ALIASES = {"baichuan-inc/Baichuan2-7B-Base": {"z_loss_weight", "rope_theta"}}
# They open only with code of their authors; where transformers has the same model it is written as that.
OWN_CODE = ("baichuan", "chatglm", "gpt3")


def read(settings):
    return config_of(registry.family(settings), settings, "config.json")


def enlarged(config):
    if hasattr(config, "decoder") and hasattr(config, "encoder"):
        parts = {name: enlarged(getattr(config, name)) for name in ("encoder", "decoder")}
        return dataclasses.replace(config, **parts)
    return dataclasses.replace(config, vocab_size=config.vocab_size + 64)


@pytest.mark.parametrize("name", TABLE)
def test_everything_the_source_says_is_kept(name):
    settings = TABLE[name]
    assert matching.match(read(settings), settings).settings == settings


@pytest.mark.parametrize("name", TABLE)
def test_what_changed_is_written_and_nothing_else(name):
    settings = TABLE[name]
    config = enlarged(read(settings))
    found = matching.match(config, settings).settings
    differing = {key for key in settings | found if settings.get(key, "-") != found.get(key, "-")}
    assert differing - ALIASES.get(name, set()) <= {"vocab_size", "padded_vocab_size"}
    assert matching.difference(read(found), config) is None


@pytest.mark.parametrize("name", TABLE)
def test_a_model_that_started_here_says_how_long_a_row_may_be(name):
    config = read(TABLE[name])
    match = matching.with_reach(matching.match(config), config, 640)
    kind = match.settings["model_type"]
    assert kind not in OWN_CODE or kind == TABLE[name]["model_type"]
    assert matching.difference(read(match.settings), config) is None
    if "rope_parameters" in match.settings and kind != "baichuan":
        scaled = {"meta-llama/Llama-3.2-1B": 8192}  # the length before scaling, where that is longer
        assert match.settings["max_position_embeddings"] == scaled.get(name, 640)


def test_where_the_trained_length_is_not_known_the_familys_own_is_written():
    config = read(LLAMA)
    assert matching.with_reach(matching.match(config), config, None).settings["max_position_embeddings"] == 2048
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "rope_theta": 1e4}
    config = read({**LLAMA, "rope_parameters": yarn})
    assert matching.with_reach(matching.match(config), config, 512).settings["max_position_embeddings"] == 16384
    dynamic = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    config = read({**LLAMA, "rope_parameters": dynamic, "max_position_embeddings": 300})
    assert matching.with_reach(matching.match(config), config, 512).settings["max_position_embeddings"] == 300


def test_qwen3_with_biases_is_found():
    settings = {**QWEN3, "attention_bias": True}
    found = matching.match(read(settings)).settings
    assert (found["model_type"], found["attention_bias"]) == ("qwen3", True)
    assert matching.match(read(QWEN3)).settings["attention_bias"] is False


def test_glm_is_not_taken_for_chatglm():
    for name, kind in (("THUDM/glm-4-9b-hf", "glm"), ("THUDM/GLM-4-9B-0414", "glm4")):
        assert matching.match(read(PUBLISHED[name])).settings["model_type"] == kind
    source = PUBLISHED["THUDM/chatglm2-6b"]
    assert matching.match(read(source), source).settings["model_type"] == "chatglm"


def test_files_that_are_settings():
    names = ["config.json", "generation_config.json", "preprocessor_config.json", "modeling_own.py", "README.md"]
    names += ["tokenizer_config.json", "tokenizer.json", "vocab.json", "model.safetensors.index.json", "trainer.json"]
    expected = ["config.json", "generation_config.json", "modeling_own.py", "preprocessor_config.json"]
    assert export_settings.setting_files(names) == expected
