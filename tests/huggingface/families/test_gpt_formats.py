"""What the formats of GPT-1, GPT-2, GPT-Neo, Gemma and T5 cannot say is refused by name, not written wrongly."""

import dataclasses

import pytest

from t5x_style.errors import UserError
from t5x_style.huggingface import matching
from t5x_style.huggingface.families import gemma, gpt1, gpt2, gpt3, t5
from t5x_style.models import specs as parts
from t5x_style.models.presets.gemma import gemma3
from t5x_style.models.presets.gpt1 import gpt1 as gpt1_preset
from t5x_style.models.presets.gpt2 import gpt2 as gpt2_preset
from t5x_style.models.presets.gpt3 import gpt3 as gpt3_preset
from t5x_style.models.presets.gpt3 import gpt_neo
from t5x_style.models.presets.t5 import t5_v1_1


def with_layers(config, change, part="attention"):
    """The configuration with `change` made in one part of every layer."""
    segments = [
        dataclasses.replace(
            segment,
            pattern=tuple(
                dataclasses.replace(layer, **{part: dataclasses.replace(getattr(layer, part), **change)})
                for layer in segment.pattern
            ),
        )
        for segment in config.segments
    ]
    return dataclasses.replace(config, segments=tuple(segments))


REFUSED = {
    "bands in GPT-2": (lambda: gpt2.to_config(gpt3_preset("tiny")), "gpt2 has no windows .locally banded layers."),
    "wide heads in GPT-2": (
        lambda: gpt2.to_config(with_layers(gpt2_preset("tiny"), {"head_dim": 32, "scale": 32**-0.5})),
        "gpt2 has heads of 64 / 4, this model of 32",
    ),
    "biases in GPT-Neo": (lambda: gpt3.to_config(gpt3_preset("tiny")), "no biases on queries, keys and values"),
    "scaled scores in GPT-Neo": (
        lambda: gpt3.to_config(with_layers(gpt_neo("tiny"), {"scale": 0.25})),
        "no scaled scores; write it as gpt3",
    ),
    "wide heads in GPT-Neo": (
        lambda: gpt3.to_config(with_layers(gpt_neo("tiny"), {"head_dim": 32})),
        "gpt_neo has heads of 64 / 4, this model of 32",
    ),
    "two windows": (
        lambda: gpt3.to_config(
            dataclasses.replace(gpt_neo("tiny"), segments=gpt_neo("tiny").segments + gpt_neo("tiny", window=5).segments)
        ),
        "gpt_neo has one window for all banded layers",
    ),
    "narrow feed-forward in GPT-1": (
        lambda: gpt1.to_config(with_layers(gpt1_preset("tiny"), {"hidden": 100}, "mlp")),
        "openai-gpt has feed-forward blocks of 4 x 64, this model of 100",
    ),
    "tanh in GPT-1": (
        lambda: gpt1.to_config(with_layers(gpt1_preset("tiny"), {"activation": "tanh"}, "mlp")),
        "openai-gpt has no activation 'tanh'; it has gelu_tanh, relu, silu",
    ),
    "unknown activation of GPT-1": (
        lambda: gpt1.from_config({**gpt1.to_config(gpt1_preset("tiny")), "afn": "elu"}),
        "config.json: afn 'elu' is not known",
    ),
    "odd scores in Gemma": (
        lambda: gemma.to_config(with_layers(gemma3("tiny"), {"scale": 0.3})),
        "gemma3_text scales scores by a whole number",
    ),
    "umT5": (
        lambda: t5.from_config({**t5.to_config(t5_v1_1("tiny")), "model_type": "umt5"}),
        "umt5 has a relative bias in every layer",
    ),
    "a missing layer": (
        lambda: gpt3.from_config({**gpt3.to_config(gpt_neo("tiny")), "attention_layers": ["global"]}),
        "attention_layers names 1 layers, the model has 4",
    ),
    "another attention": (
        lambda: gpt3.from_config({**gpt3.to_config(gpt_neo("tiny")), "attention_layers": ["global", "strided"] * 2}),
        "attention 'strided' is not known; known are global, local",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    act, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        act()


def test_layers_without_a_list_are_read_from_their_types():
    settings = gpt3.to_config(gpt_neo("tiny"))
    del settings["attention_layers"]
    assert gpt3.from_config(settings) == gpt_neo("tiny")
    assert gpt3.attention_layers(
        {"model_type": "gpt_neo", "num_layers": 5, "attention_types": [[["global"], 1], [["local", "global"], 2]]}
    ) == ["global", "local", "global", "local", "global"]


def test_scores_that_are_not_scaled_are_written_for_gpt2():
    config = with_layers(gpt2_preset("tiny"), {"scale": 1.0})
    assert gpt2.to_config(config)["scale_attn_weights"] is False
    assert gpt2.from_config(gpt2.to_config(config)) == config


def test_gemma_without_a_scale_has_that_of_its_heads():
    config = with_layers(gemma3("tiny"), {"scale": None})
    assert gemma.to_config(config)["query_pre_attn_scalar"] == 16


def test_an_export_finds_the_format_or_says_why_not():
    assert matching.match(gpt_neo("tiny")).settings["model_type"] == "gpt_neo"
    assert matching.match(gpt1_preset("tiny")).settings["model_type"] == "openai-gpt"
    banded = gpt3_preset("tiny")
    with pytest.raises(UserError, match="gpt2 has no windows"):
        matching.match(banded, model_type="gpt2")
    with pytest.raises(UserError, match="no known architecture of Hugging Face holds this DecoderConfig"):
        matching.match(banded)  # transformers has none
    found = matching.match(banded, model_type="gpt3")
    assert matching.match(banded, found.settings).settings == found.settings
    assert found.family.from_config(found.settings) == banded


def test_gpt3_without_bands_is_gpt2():
    dense = with_layers(gpt3_preset("tiny"), {"window": None})
    dense = dataclasses.replace(dense, segments=(parts.LayerGroup((dense.layers[0],), len(dense.layers)),))
    assert matching.match(dense).settings["model_type"] == "gpt2"
