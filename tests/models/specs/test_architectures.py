"""Configurations: refused values, JSON there and back."""

import dataclasses
import json

import pytest

from t5x_style.errors import UserError
from t5x_style.models import serialization
from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: parts.AttentionSpec(heads=6, kv_heads=4, head_dim=8), "6 heads do not divide over 4"),
        (lambda: parts.AttentionSpec(heads=0, kv_heads=1, head_dim=8), "heads is 0"),
        (lambda: parts.AttentionSpec(heads=1, kv_heads=1, head_dim=7), "even"),
        (lambda: parts.AttentionSpec(heads=1, kv_heads=1, head_dim=8, window=0), "window is 0"),
        (lambda: parts.AttentionSpec(heads=1, kv_heads=1, head_dim=8, window=4, causal=False), "causal"),
        (lambda: parts.AttentionSpec(heads=1, kv_heads=1, head_dim=8, logit_softcap=0.0), "softcap"),
        (lambda: parts.MlpSpec(8, activation="swish"), "choose one of silu"),
        (lambda: parts.NormSpec(epsilon=0.0), "epsilon"),
        (lambda: parts.LayerGroup((), 2), "empty"),
        (lambda: parts.RopeScaling("ntk"), "choose one of linear, dynamic, llama3, yarn"),
        (lambda: parts.RopeScaling("linear", 0.5), "at least 1"),
        (lambda: parts.DtypePolicy(compute="float8"), "choose one of float32"),
        (lambda: llama(32, 30, 2, 4), "embed_dim 30 does not divide over 4 heads"),
        (lambda: llama(32, 32, 0, 4), "repeats is 0"),
        (lambda: parts.Execution(remat="some"), "choose one of none, full, dots"),
        (lambda: parts.Execution(attention="flash"), "choose one of auto, blockwise, xla"),
        (lambda: parts.Execution(loss_chunk=0), "Execution.loss_chunk is 0"),
    ],
)
def test_bad_values_are_one_line_user_errors(build, message):
    with pytest.raises(UserError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_json_round_trip_is_exact(make_config):
    scaling = parts.RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)
    tiny = 0.1 + 0.2  # a float whose shortest form has 17 digits
    configs = [
        make_config(attention={"rope": parts.RopeSpec(500000.0, scaling), "window": 7, "scale": tiny}),
        llama(128256, 4096, 32, 32, 8, 14336, rope_base=500000.0),
        parts.DtypePolicy(compute="bfloat16"),
    ]
    for config in configs:
        text = serialization.to_json(config)
        assert serialization.from_json(text) == config
        assert serialization.to_json(serialization.from_json(text)) == text
        assert hash(serialization.from_json(text)) == hash(config)


def edited(config, edit):
    document = json.loads(serialization.to_json(config))
    edit(document)
    return json.dumps(document)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d["config"].update(colour="red"), "DecoderConfig has no field 'colour'"),
        (lambda d: d["config"]["segments"][0].update(depth=1), r"segments\[0\]: Segment has no field 'depth'"),
        (lambda d: d["config"].pop("embed_dim"), "embed_dim"),
        (lambda d: d.update(format=2), "format 2, this version reads 1"),
        (lambda d: d["config"].update(type="Encoder"), "unknown type 'Encoder'"),
        (lambda d: d["config"].update(embed_dim=0), "embed_dim is 0"),
        (lambda d: d.update(extra=1), "exactly 'format' and 'config'"),
    ],
)
def test_foreign_json_is_refused(make_config, edit, message):
    with pytest.raises(UserError, match=message):
        serialization.from_json(edited(make_config(), edit))


@pytest.mark.parametrize("cls", [parts.DecoderConfig, parts.EncoderConfig, parts.TransformerConfig])
def test_how_a_model_ran_is_read_over_in_older_files(cls, make_config):
    settings = {field.name: getattr(make_config(), field.name) for field in dataclasses.fields(parts.TransformerConfig)}
    layer = dataclasses.replace(
        settings["segments"][0].pattern[0], attention=parts.AttentionSpec(4, 4, 8, causal=False)
    )
    config = cls(**{**settings, "segments": (parts.LayerGroup((layer,), 2),)})
    older = edited(config, lambda d: d["config"].update(scan=True, remat="dots"))
    assert serialization.from_json(older) == config
    assert not {"scan", "remat"} & set(json.loads(serialization.to_json(config))["config"])
    with pytest.raises(UserError, match="LayerSpec has no field 'scan'"):
        serialization.from_json(edited(config, lambda d: d["config"]["segments"][0]["pattern"][0].update(scan=True)))


def test_broken_json_is_refused():
    with pytest.raises(UserError, match=r"cut\.json is no JSON"):
        serialization.from_json('{"format": 1,', "cut.json")


def test_padded_vocabulary_and_layers(make_config):
    config = make_config()
    assert config.padded_vocab_size == 64
    assert dataclasses.replace(config, vocab_size=64).padded_vocab_size == 64
    assert len(config.layers) == 3
