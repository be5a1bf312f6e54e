"""Rates of dropout in a config.json: read by place, written back, and what is meant where a key is missing."""

import dataclasses
import json
import pathlib

import pytest

from t5x_style.huggingface import dropout, matching, registry
from t5x_style.models.presets import (
    albert,
    bert,
    bloom,
    glm,
    gpt1,
    gpt2,
    gpt3,
    llama,
    lstm,
    spanbert,
    switch,
    t5,
    xlnet,
)
from t5x_style.models.serialization import from_json, to_json
from t5x_style.models.specs import NO_DROPOUT, DropoutSpec, EncoderDecoderConfig

PUBLISHED = json.loads((pathlib.Path(__file__).parent / "published.json").read_text())
TENTH = DropoutSpec(embedding=0.1, residual=0.1, attention=0.1)
EVERYWHERE = DropoutSpec(0.1, 0.1, 0.1, 0.1, 0.1)


def of(config):
    if isinstance(config, EncoderDecoderConfig):
        assert config.encoder.dropout == config.decoder.dropout
        return config.decoder.dropout
    return config.dropout


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("gpt2", TENTH),
        ("openai-gpt", TENTH),
        ("bert-base-uncased", TENTH),
        ("roberta-base", TENTH),
        ("albert-base-v2", NO_DROPOUT),
        ("t5-small", EVERYWHERE),
        ("google/switch-base-8", EVERYWHERE),
        ("xlnet-base-cased", EVERYWHERE),
        ("EleutherAI/gpt-neo-125m", NO_DROPOUT),
        ("bigscience/bloom-560m", NO_DROPOUT),
        ("meta-llama/Llama-3.2-1B", NO_DROPOUT),
    ],
)
def test_published_rates_with_and_without_their_keys(name, rates):
    settings = PUBLISHED[name]
    family = registry.family(settings)
    assert of(family.from_config(settings)) == rates
    assert of(family.from_config({key: value for key, value in settings.items() if "drop" not in key})) == rates


OTHERS = {
    "bert": {"hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.2, "embd_pdrop": 0.0, "attn_pdrop": 0.3},
    "gpt_neo": {"resid_dropout": 0.2, "embed_dropout": 0.4, "attention_dropout": 0.3},
    "bloom": {"hidden_dropout": 0.2, "attention_dropout": 0.3},
    "mt5": {"dropout_rate": 0.2},
    "llama": {"attention_dropout": 0.3},
    "xlnet": {"dropout": 0.2},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_rates_there_and_back(kind):
    settings = next(published for published in PUBLISHED.values() if published["model_type"] == kind) | OTHERS[kind]
    family = registry.family(settings)
    config = family.from_config(settings)
    written = family.to_config(config, kind)
    assert {key: written[key] for key in OTHERS[kind]} == OTHERS[kind]
    assert from_json(to_json(config)) == config
    plain = family.from_config(settings | dict.fromkeys(OTHERS[kind], 0.05))
    assert plain != config
    assert matching.difference(plain, config) is None  # the same model


def test_a_key_of_several_places_is_the_first_of_them():
    assert dropout.write(DropoutSpec(embedding=0.3, residual=0.2), "bert") == {
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.0,
    }
    assert dropout.write(DropoutSpec(residual=0.2), "llama") == {}


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (gpt1.gpt1("tiny"), TENTH),
        (gpt2.gpt2("tiny"), TENTH),
        (gpt3.gpt3("tiny"), NO_DROPOUT),
        (bert.bert("tiny"), TENTH),
        (spanbert.spanbert("tiny"), TENTH),
        (albert.albert("tiny"), NO_DROPOUT),
        (glm.glm("tiny"), TENTH),
        (glm.glm4("tiny"), NO_DROPOUT),
        (t5.t5("tiny"), EVERYWHERE),
        (t5.t5_v1_1("tiny"), NO_DROPOUT),
        (t5.mt5("tiny"), NO_DROPOUT),
        (switch.switch("tiny"), NO_DROPOUT),
        (xlnet.xlnet("tiny"), EVERYWHERE),
        (bloom.bloom("tiny"), NO_DROPOUT),
        (llama.llama2("tiny"), NO_DROPOUT),
        (lstm.lstm("small"), NO_DROPOUT),
        (lstm.lstm("medium"), DropoutSpec(embedding=0.5, hidden=0.5, final=0.5)),
        (lstm.lstm("large"), DropoutSpec(embedding=0.65, hidden=0.65, final=0.65)),
        (gpt2.gpt2("tiny", dropout=NO_DROPOUT), NO_DROPOUT),
        (llama.llama2("tiny", dropout=TENTH), TENTH),
        (
            t5.t5_v1_1("tiny", dropout=dataclasses.replace(EVERYWHERE, attention=0.0)),
            DropoutSpec(0.1, 0.1, 0.1, 0, 0.1),
        ),
    ],
)
def test_presets_have_what_was_published(config, rates):
    assert of(config) == rates
