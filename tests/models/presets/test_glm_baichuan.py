"""GLM, ChatGLM and Baichuan: sizes as published, equal to what the released config.json gives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.huggingface.families import baichuan as baichuan_files
from t5x_style.huggingface.families import chatglm as chatglm_files
from t5x_style.huggingface.families import glm as glm_files
from t5x_style.huggingface.families import glm_infilling
from t5x_style.models.presets import baichuan, chatglm, glm
from tests.models.execution_checks import drawn

PRESETS = {
    glm.glm: glm.GLM,
    glm.glm4: glm.GLM4,
    glm.glm4_0414: glm.GLM4_0414,
    chatglm.chatglm: chatglm.CHATGLM,
    chatglm.chatglm2: chatglm.CHATGLM2,
    chatglm.chatglm3: chatglm.CHATGLM3,
    baichuan.baichuan: baichuan.BAICHUAN,
    baichuan.baichuan2: baichuan.BAICHUAN2,
}
CHATGLM2 = {
    "model_type": "chatglm",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": 13696,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 28,
    "padded_vocab_size": 65024,
    "post_layer_norm": True,
    "rmsnorm": True,
}
CHATGLM = {
    "model_type": "chatglm",
    "bos_token_id": 130004,
    "gmask_token_id": 130001,
    "hidden_size": 4096,
    "inner_hidden_size": 16384,
    "layernorm_epsilon": 1e-5,
    "mask_token_id": 130000,
    "max_sequence_length": 2048,
    "num_attention_heads": 32,
    "num_layers": 28,
    "position_encoding_2d": True,
    "vocab_size": 130528,
}
GLM_10B = {
    "model_type": "glm",
    "block_position_encoding": True,
    "hidden_size": 4096,
    "max_sequence_length": 1024,
    "num_attention_heads": 64,
    "num_layers": 48,
    "vocab_size": 50304,
}
GLM4_ORIGINAL = {**CHATGLM2, "num_layers": 40, "padded_vocab_size": 151552, "layernorm_epsilon": 1.5625e-07}
GLM4 = {
    "model_type": "glm",
    "attention_bias": True,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1.5625e-07,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 151552,
}
BAICHUAN_7B = {
    "model_type": "baichuan",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rms_norm_eps": 1e-06,
    "vocab_size": 64000,
}
BAICHUAN_13B = {
    "model_type": "baichuan",
    "hidden_act": "silu",
    "hidden_size": 5120,
    "intermediate_size": 13696,
    "model_max_length": 4096,
    "num_attention_heads": 40,
    "num_hidden_layers": 40,
    "rms_norm_eps": 1e-06,
    "vocab_size": 64000,
}
SECOND = {"vocab_size": 125696, "z_loss_weight": 0}


@pytest.mark.parametrize(
    ("preset", "size", "family", "settings"),
    [
        (glm.glm, "10b", glm_infilling, GLM_10B),
        (glm.glm4, "9b", glm_files, GLM4),
        (glm.glm4, "9b", chatglm_files, GLM4_ORIGINAL),
        (chatglm.chatglm, "6b", chatglm_files, CHATGLM),
        (chatglm.chatglm2, "6b", chatglm_files, CHATGLM2),
        (chatglm.chatglm3, "6b", chatglm_files, CHATGLM2),
        (baichuan.baichuan, "7b", baichuan_files, BAICHUAN_7B),
        (baichuan.baichuan, "13b", baichuan_files, BAICHUAN_13B),
        (baichuan.baichuan2, "7b", baichuan_files, {**BAICHUAN_7B, **SECOND}),
        (baichuan.baichuan2, "13b", baichuan_files, {**BAICHUAN_13B, **SECOND}),
    ],
)
def test_presets_are_the_released_configurations(preset, size, family, settings):
    config = preset(size)
    assert config == family.from_config(settings)
    assert family.from_config(family.to_config(config, settings["model_type"])) == config


@pytest.mark.parametrize(
    ("preset", "size", "published", "digits"),
    [
        (glm.glm, "110m", 110e6, 1e6),
        (glm.glm, "335m", 335e6, 1e6),
        (glm.glm, "410m", 410e6, 1e6),
        (glm.glm, "515m", 515e6, 1e6),
        (glm.glm, "2b", 2e9, 1e8),
        (glm.glm, "10b", 10e9, 2e8),
        (glm.glm4, "9b", 9.4e9, 1e8),
        (glm.glm4_0414, "32b", 32.6e9, 1e8),
        (chatglm.chatglm2, "6b", 6.2e9, 1e8),
        (baichuan.baichuan, "7b", 7_000_559_616, 0),  # their README states every digit
        (baichuan.baichuan, "13b", 13_264_901_120, 0),
        (baichuan.baichuan2, "7b", 7.5e9, 1e8),
        (baichuan.baichuan2, "13b", 13.9e9, 1e8),
    ],
)
def test_parameters_are_those_published(preset, size, published, digits):
    assert abs(models.parameter_count(preset(size, vocab_multiple=1)) - published) <= digits


def test_chatglm_6b_has_6_2_billion_with_the_table_once():
    config = chatglm.chatglm("6b", vocab_multiple=1)
    tied = dataclasses.replace(config, tied_embeddings=True)
    assert round(models.parameter_count(tied) / 1e9, 1) == 6.2


# The others differ from these in sizes, biases and norms.
FAST = (glm.glm, glm.glm4_0414, chatglm.chatglm, baichuan.baichuan)


@pytest.mark.parametrize(
    "preset", [pytest.param(preset, marks=() if preset in FAST else pytest.mark.slow) for preset in PRESETS]
)
def test_tiny_models_run(preset):
    config = preset("tiny")
    assert models.parameter_count(config) <= 500_000
    hidden = np.asarray(jax.jit(lambda model, tokens: model(tokens))(drawn(config), jnp.asarray([[5, 6, 7, 1023]])))
    assert hidden.shape == (1, 4, config.embed_dim)
    assert np.isfinite(hidden).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_unknown_sizes_list_the_known(preset):
    with pytest.raises(UserError, match=f"{preset.__name__}: size '7x' is not known; choose one of tiny, "):
        preset("7x")
    assert preset("tiny", vocab_size=77).vocab_size == 77
