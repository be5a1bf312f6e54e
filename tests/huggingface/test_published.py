"""config.json as published models have it: old spellings, keys of no use, keys left out; one line a model in a file."""

import json
import math
import pathlib

import pytest

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, load, registry
from t5x_style.models.specs import RopeScaling

PUBLISHED = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())

# Parameters as the models' pages or papers state them, of those that name a number; in millions.
MILLIONS = {
    "meta-llama/Llama-3.2-1B": 1235.8,
    "mistralai/Mistral-7B-v0.1": 7241.7,
    "mistralai/Mixtral-8x7B-v0.1": 46702.8,
    "Qwen/Qwen2.5-0.5B": 494.0,
    "Qwen/Qwen3-0.6B": 596.0,
    "google/gemma-2-2b": 2614.3,
    "google/gemma-3-1b-pt": 999.9,
    "gpt2": 124.4,
    "bigscience/bloom-560m": 559.2,
    "t5-small": 60.5,
    "google/flan-t5-base": 247.6,
    "google/mt5-small": 300.2,
    "google/switch-base-8": 619.3,
    "THUDM/glm-4-9b-hf": 9400.0,
    "THUDM/chatglm2-6b": 6243.6,
    "baichuan-inc/Baichuan2-7B-Base": 7506.0,
}


def config(name, **changes):
    settings = {**PUBLISHED[name], **changes}
    return registry.family(settings).from_config(settings)


def without(name, *keys):
    settings = {key: value for key, value in PUBLISHED[name].items() if key not in keys}
    return registry.family(settings).from_config(settings)


@pytest.mark.parametrize("name", MILLIONS)
def test_parameter_count(name):
    settings = PUBLISHED[name]
    family = registry.family(settings)
    found = family.from_config(settings)
    # counted in their tensors, without the rows that pad our vocabulary
    count = sum(math.prod(rule.layout.theirs) for rule, _ in family.weight_map(found).rules())
    assert count / 1e6 == pytest.approx(MILLIONS[name], rel=1e-3)
    assert load.abstract_parameters(found).keys() == {
        path for rule, _ in family.weight_map(found).rules() for path in rule.ours
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_there_and_back(name):
    settings = PUBLISHED[name]
    family = registry.family(settings)
    found = family.from_config(settings)
    assert family.from_config(family.to_config(found, settings["model_type"])) == found
    if name not in MILLIONS:  # or test_parameter_count has made its shapes
        assert models.abstract(found) is not None


def test_rotary_settings_in_both_spellings():
    rope = config("meta-llama/Llama-3.2-1B").layers[0].attention.rope
    assert (rope.base, rope.scaling) == (500000.0, RopeScaling("llama3", 32.0, 1.0, 4.0, 8192))
    for spelling in ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4}):
        rope = config("huggyllama/llama-7b", rope_scaling=spelling).layers[0].attention.rope
        assert (rope.base, rope.scaling) == (10000.0, RopeScaling("linear", 4.0))
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    rope = config("Qwen/Qwen2.5-0.5B", rope_scaling=yarn).layers[0].attention.rope
    assert (rope.base, rope.scaling) == (1e6, RopeScaling("yarn", 4.0, original_length=32768))


def test_dynamic_scaling_starts_behind_max_position_embeddings():
    scaling = {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 512}
    found = config("huggyllama/llama-7b", rope_scaling=scaling)
    assert found.layers[0].attention.rope.scaling == RopeScaling("dynamic", 2.0, original_length=2048)
    written = registry.family({"model_type": "llama"}).to_config(found)
    assert written["max_position_embeddings"] == 2048  # the only place where transformers reads it


def test_yarn_without_a_factor_is_the_ratio_of_lengths():
    yarn = {"type": "yarn", "factor": None, "original_max_position_embeddings": 8192}
    assert config("Qwen/Qwen2.5-0.5B", rope_scaling=yarn).layers[0].attention.rope.scaling.factor == 4.0
    with pytest.raises(UserError, match="'linear' needs a factor"):
        config("Qwen/Qwen2.5-0.5B", rope_scaling={"type": "linear"})


def test_windows():
    assert {layer.attention.window for layer in config("mistralai/Mistral-7B-v0.1").layers} == {4096}
    assert {layer.attention.window for layer in config("mistralai/Mistral-7B-v0.3").layers} == {None}
    assert {layer.attention.window for layer in config("Qwen/Qwen2.5-0.5B").layers} == {None}
    windows = [layer.attention.window for layer in config("google/gemma-3-1b-pt").layers]
    assert windows == [None if number % 6 == 5 else 512 for number in range(26)]
    bases = {layer.attention.window: layer.attention.rope.base for layer in config("google/gemma-3-1b-pt").layers}
    assert bases == {None: 1e6, 512: 1e4}
    windows = [layer.attention.window for layer in config("google/gemma-2-2b").layers]
    assert windows == [4096, None] * 13


def test_what_files_leave_out_is_what_transformers_takes():
    layer = without("mistralai/Mistral-7B-v0.1", "sliding_window", "num_key_value_heads", "hidden_act").layers[0]
    assert (layer.attention.window, layer.attention.kv_heads, layer.mlp.activation) == (4096, 8, "silu")
    layer = without("mistralai/Mixtral-8x7B-v0.1", "rms_norm_eps", "rope_theta").layers[0]
    assert (layer.norm.epsilon, layer.attention.rope.base) == (1e-5, 1e6)
    assert without("Qwen/Qwen2.5-0.5B", "use_sliding_window").layers[-1].attention.window is None
    assert without("Qwen/Qwen3-0.6B", "head_dim").layers[0].attention.head_dim == 128
    found = without("google/gemma-2-2b", "attn_logit_softcapping", "final_logit_softcapping")
    assert (found.layers[0].attention.logit_softcap, found.head.softcap) == (50.0, 30.0)
    assert without("google/mt5-small", "feed_forward_proj").encoder.layers[0].mlp.gated
    found = config("google/gemma-3-4b-pt (text_config)")
    assert (found.vocab_size, found.layers[0].attention.heads, found.layers[0].attention.kv_heads) == (262208, 8, 4)
    assert {layer.attention.rope.scaling for layer in found.layers if layer.attention.window} == {None}
    assert found.layers[5].attention.rope.scaling == RopeScaling("linear", 8.0)


def test_null_is_not_left_out():
    assert defaults.filled({"model_type": "mistral", "sliding_window": None})["sliding_window"] is None
    assert config("mistralai/Mistral-7B-v0.1", num_key_value_heads=None).layers[0].attention.kv_heads == 32


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Qwen/Qwen2.5-0.5B", {"use_sliding_window": True, "layer_types": ["chunked_attention"] * 24}, "layer_types"),
        ("google/gemma-2-2b", {"layer_types": ["full_attention"] * 25}, "names 25 layers, num_hidden_layers is 26"),
        ("google/gemma-3-1b-pt", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("bert-base-uncased", {"is_decoder": True}, "is_decoder"),
        ("bert-base-uncased", {"position_embedding_type": "relative_key"}, "relative_key"),
        ("huggyllama/llama-7b", {"rope_scaling": {"type": "longrope"}}, "longrope"),
        ("huggyllama/llama-7b", {"hidden_act": "mish"}, "mish"),
    ],
)
def test_what_a_family_does_not_know_is_refused(name, changes, message):
    with pytest.raises(UserError, match=message):
        config(name, **changes)
