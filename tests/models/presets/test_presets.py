"""Presets: counts of the released weights, the tiny sizes' parts, options, and config.json at every size."""

import dataclasses
import importlib

import jax.numpy as jnp
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.models import specs as parts
from t5x_style.models.presets import bloom, gemma, gpt1, gpt2, gpt3, llama, mistral, mixtral, qwen, t5, ul2
from t5x_style.models.serialization import from_json, to_json
from tests.models.presets.sizes_of import EVERY, FAMILIES, IDS, ONE_EACH, PRESETS

# Counts of the released weights, tied tables once.
RELEASED = {
    (llama.llama1, "7b"): 6_738_415_616,
    (llama.llama1, "13b"): 13_015_864_320,
    (llama.llama1, "33b"): 32_528_943_616,
    (llama.llama1, "65b"): 65_285_660_672,
    (llama.llama2, "7b"): 6_738_415_616,
    (llama.llama2, "13b"): 13_015_864_320,
    (llama.llama2, "70b"): 68_976_648_192,
    (llama.llama3, "8b"): 8_030_261_248,
    (llama.llama3, "70b"): 70_553_706_496,
    (llama.llama3_1, "405b"): 405_853_388_800,
    (llama.llama3_2, "1b"): 1_235_814_400,
    (llama.llama3_2, "3b"): 3_212_749_824,
    (mistral.mistral, "7b-v0.1"): 7_241_732_096,
    (mistral.mistral, "7b-v0.3"): 7_248_023_552,
    (mixtral.mixtral, "8x7b"): 46_702_792_704,
    (qwen.qwen2, "0.5b"): 494_032_768,
    (qwen.qwen2, "1.5b"): 1_543_714_304,
    (qwen.qwen2, "7b"): 7_615_616_512,
    (qwen.qwen2, "72b"): 72_706_203_648,
    (qwen.qwen2_5, "3b"): 3_085_938_688,
    (qwen.qwen2_5, "14b"): 14_770_033_664,
    (qwen.qwen2_5, "32b"): 32_763_876_352,
    (qwen.qwen3, "0.6b"): 596_049_920,
    (qwen.qwen3, "1.7b"): 1_720_574_976,
    (qwen.qwen3, "4b"): 4_022_468_096,
    (qwen.qwen3, "8b"): 8_190_735_360,
    (qwen.qwen3, "14b"): 14_768_307_200,
    (qwen.qwen3, "32b"): 32_762_123_264,
    (gemma.gemma2, "2b"): 2_614_341_888,
    (gemma.gemma2, "9b"): 9_241_705_984,
    (gemma.gemma2, "27b"): 27_227_128_320,
    (gemma.gemma3, "270m"): 268_098_176,
    (gemma.gemma3, "1b"): 999_885_952,
    (gpt1.gpt1, "117m"): 116_534_784,
    (gpt2.gpt2, "124m"): 124_439_808,
    (gpt2.gpt2, "355m"): 354_823_168,
    (gpt2.gpt2, "774m"): 774_030_080,
    (gpt2.gpt2, "1.5b"): 1_557_611_200,
    (gpt3.gpt_neo, "125m"): 125_198_592,
    (gpt3.gpt_neo, "1.3b"): 1_315_575_808,
    (gpt3.gpt_neo, "2.7b"): 2_651_307_520,
    (bloom.bloom, "560m"): 559_214_592,
    (bloom.bloom, "1b1"): 1_065_314_304,
    (bloom.bloom, "1b7"): 1_722_408_960,
    (bloom.bloom, "3b"): 3_002_557_440,
    (bloom.bloom, "7b1"): 7_069_016_064,
    (bloom.bloom, "176b"): 176_247_271_424,
    (t5.t5, "small"): 60_506_624,
    (t5.t5, "base"): 222_903_552,
    (t5.t5, "large"): 737_668_096,
    (t5.t5, "3b"): 2_851_598_336,
    (t5.t5, "11b"): 11_307_321_344,
    (t5.t5_v1_1, "small"): 76_961_152,
    (t5.t5_v1_1, "base"): 247_577_856,
    (t5.t5_v1_1, "large"): 783_150_080,
    (t5.t5_v1_1, "xl"): 2_849_757_184,
    (t5.t5_v1_1, "xxl"): 11_135_332_352,
    (t5.mt5, "small"): 300_176_768,
    (t5.mt5, "base"): 582_401_280,
    (t5.mt5, "large"): 1_229_581_312,
    (t5.mt5, "xl"): 3_742_619_648,
    (t5.mt5, "xxl"): 12_921_057_280,
}
# Brown et al. 2020, table 2.1, in millions.
PAPER_GPT3 = {
    "125m": 125,
    "350m": 350,
    "760m": 760,
    "1.3b": 1300,
    "2.7b": 2700,
    "6.7b": 6700,
    "13b": 13000,
    "175b": 175000,
}


@pytest.mark.parametrize(
    ("preset", "size"),
    [
        pytest.param(
            *key, id=f"{key[0].__name__}-{key[1]}", marks=() if ONE_EACH[key[0]] == key[1] else pytest.mark.slow
        )
        for key in RELEASED
    ],
)
def test_counts_of_released_weights(preset, size):
    assert models.parameter_count(preset(size, vocab_multiple=1)) == RELEASED[preset, size]


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=() if size in ("125m", "175b") else pytest.mark.slow) for size in PAPER_GPT3]
)
def test_gpt3_has_the_papers_counts(size):
    assert models.parameter_count(gpt3.gpt3(size, vocab_multiple=1)) / 1e6 == pytest.approx(PAPER_GPT3[size], rel=0.02)


@pytest.mark.parametrize(("preset", "size"), EVERY, ids=IDS)
def test_config_json_at_every_size(preset, size):
    config = preset(size)
    module, kind = FAMILIES[preset]
    family = importlib.import_module(f"t5x_style.huggingface.families.{module}")
    assert family.from_config(family.to_config(config, kind)) == config
    assert from_json(to_json(config)) == config


def trunks(config):
    return (config.encoder, config.decoder) if isinstance(config, parts.EncoderDecoderConfig) else (config,)


def outline(config):
    """The parts of a model without its sizes."""

    def layer(spec):
        attention, mlp = spec.attention, spec.mlp
        return (
            spec.placement,
            spec.norm,
            attention.window is None,
            None if attention.rope is None else (attention.rope.base, attention.rope.scaling),
            (attention.qkv_bias, attention.output_bias, attention.qk_norm, attention.logit_softcap, attention.alibi),
            type(mlp),
            dataclasses.replace(mlp.mlp if isinstance(mlp, parts.MoeSpec) else mlp, hidden=1),
            spec.cross_attention is None,
        )

    def trunk(config):
        positions = config.embedding.positions
        return (
            tuple(dict.fromkeys(layer(spec) for spec in config.layers)),
            config.final_norm,
            config.tied_embeddings,
            config.relative_bias,
            config.embedding.norm,
            None if positions is None else positions.kind,
            (config.head.softcap, config.head.scale is None),
        )

    return [trunk(each) for each in trunks(config)]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_tiny_has_the_parts_of_a_large_one(preset):
    others = [outline(preset(size)) for size in PRESETS[preset] if size != "tiny"]
    assert outline(preset("tiny")) in others


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_tiny_is_small_and_runs(preset):
    config = preset("tiny", vocab_size=40, vocab_multiple=8)
    assert models.parameter_count(preset("tiny")) <= 500_000
    for trunk in trunks(config):
        assert (trunk.vocab_size, trunk.padded_vocab_size) == (40, 40)
    model, tokens = models.abstract(config), jnp.zeros((1, 24), int)
    inputs = (tokens, tokens) if isinstance(config, parts.EncoderDecoderConfig) else (tokens,)
    assert nnx.eval_shape(lambda m: m(*inputs), model).shape == (1, 24, config.embed_dim)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_an_unknown_size_lists_the_known(preset):
    with pytest.raises(UserError, match=rf"^{preset.__name__}: size '7z' is not known; choose one of tiny, "):
        preset("7z")


def test_alpaca_has_one_id_more():
    plain, alpaca = (llama.llama1("7b", size, vocab_multiple=1) for size in (None, 32001))
    assert models.parameter_count(alpaca) - models.parameter_count(plain) == 2 * 4096


def test_gpt3_alternates_dense_and_banded_layers():
    assert [layer.attention.window for layer in gpt3.gpt3("125m").layers] == [None, 256] * 6
    assert [layer.attention.window for layer in gpt3.gpt3("175b", window=128).layers] == [None, 128] * 48


def test_gemma_alternates_windows():
    assert [layer.attention.window for layer in gemma.gemma2("2b").layers] == [4096, None] * 13
    windows = [layer.attention.window for layer in gemma.gemma3("1b").layers]
    assert windows == ([512] * 5 + [None]) * 4 + [512] * 2
    assert {layer.attention.rope.base for layer in gemma.gemma3("4b").layers} == {1e4, 1e6}
    wide = gemma.gemma3("4b").layers[5].attention
    assert wide.rope.scaling == parts.RopeScaling("linear", 8.0)


def test_scores_of_gemma_are_scaled_as_published():
    assert gemma.gemma2("27b").layers[0].attention.scale == 144**-0.5
    assert gemma.gemma3("27b").layers[0].attention.scale == 168**-0.5


def test_ul2_counts_what_its_parts_count():
    config = ul2.ul2("20b", vocab_multiple=1)
    attention, mlp, width = 4 * 4096 * 16 * 256, 3 * 4096 * 16384, 4096
    layers = 32 * (attention + mlp + 2 * width) + 32 * (2 * attention + mlp + 3 * width)
    assert models.parameter_count(config) == layers + 2 * 32128 * width + 2 * 32 * 16 + 2 * width
