"""Every family against transformers on torch: equal logits, weights there and back to the bit, configs both ways."""

import importlib
import importlib.util
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.huggingface import weight_map
from t5x_style.models import build
from t5x_style.models.config import EncoderConfig, EncoderDecoderConfig

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import safetensors.numpy
import torch
import transformers

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4

LLAMA = {
    "vocab_size": 99,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
GEMMA = {**LLAMA, "num_hidden_layers": 7, "head_dim": 10, "query_pre_attn_scalar": 12, "sliding_window": 8}
GPT2 = {"vocab_size": 99, "n_embd": 48, "n_head": 4, "n_layer": 3, "n_positions": 80}
BLOOM = {"vocab_size": 99, "hidden_size": 48, "n_head": 6, "n_layer": 3}
T5 = {"vocab_size": 99, "d_model": 48, "d_kv": 10, "d_ff": 80, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4}
BERT = {
    "vocab_size": 99,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 80,
}


class Case(NamedTuple):
    """A family's module, the class of its configuration in transformers, and its settings."""

    family: str
    config: str
    settings: dict


def rope(kind, **settings):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **settings}}


CASES = {
    "llama-gqa": Case("llama", "LlamaConfig", LLAMA),
    "llama-mqa-tied-biases": Case(
        "llama",
        "LlamaConfig",
        {**LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    ),
    "llama-rope-linear": Case("llama", "LlamaConfig", {**LLAMA, **rope("linear", factor=4.0)}),
    "llama-rope-dynamic": Case("llama", "LlamaConfig", {**LLAMA, **rope("dynamic", factor=4.0)}),
    "llama-rope-yarn": Case(
        "llama", "LlamaConfig", {**LLAMA, **rope("yarn", factor=4.0, original_max_position_embeddings=16)}
    ),
    "llama-rope-yarn-amplitude": Case(
        "llama",
        "LlamaConfig",
        {**LLAMA, **rope("yarn", factor=8.0, original_max_position_embeddings=32, attention_factor=0.7, beta_fast=16)},
    ),
    "llama-rope-llama3": Case(
        "llama",
        "LlamaConfig",
        {
            **LLAMA,
            **rope(
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        },
    ),
    "mistral-window": Case("llama", "MistralConfig", {**LLAMA, "sliding_window": 7}),
    "mixtral": Case("llama", "MixtralConfig", {**LLAMA, "num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen2-windows": Case(
        "llama", "Qwen2Config", {**LLAMA, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
    ),
    "qwen3": Case("llama", "Qwen3Config", {**LLAMA, "head_dim": 20}),
    "gemma2": Case("gemma", "Gemma2Config", {**GEMMA, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 5.0}),
    "gemma3": Case("gemma", "Gemma3TextConfig", GEMMA),
    "gpt2": Case("gpt2", "GPT2Config", GPT2),
    "gpt2-scaled-by-layer": Case("gpt2", "GPT2Config", {**GPT2, "scale_attn_by_inverse_layer_idx": True}),
    "bloom-6-heads": Case("bloom", "BloomConfig", BLOOM),
    "bloom-normed-residual": Case(
        "bloom", "BloomConfig", {**BLOOM, "n_head": 4, "apply_residual_connection_post_layernorm": True}
    ),
    "t5": Case("t5", "T5Config", T5),
    "t5-v1.1": Case("t5", "T5Config", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "mt5": Case("t5", "MT5Config", T5),
    "bert": Case("bert", "BertConfig", BERT),
    "roberta": Case("bert", "RobertaConfig", {**BERT, "pad_token_id": 1, "type_vocab_size": 1}),
}


def pair(case, folder):
    """(their model, their tensors by name, our configuration, our model, our parameters by path, the map)."""
    family = importlib.import_module(f"t5x_style.huggingface.families.{case.family}")
    settings = getattr(transformers, case.config)(**case.settings, attn_implementation="eager")
    torch.manual_seed(0)
    theirs = getattr(transformers, family.MODEL_TYPES[settings.model_type])(settings).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # default weights are too small to show a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    config = family.from_config(settings.to_dict())
    assert family.from_config(family.to_config(config, settings.model_type)) == config
    model, mapping = build(config), family.weight_map(config)
    ours = {"/".join(map(str, path)): value for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    shapes = {path: value.shape for path, value in ours.items()}
    read = set()
    for path, value in weight_map.read(tensors, mapping, shapes):
        assert value.shape == shapes[path], path
        ours[path].set_value(jnp.asarray(value))
        read.add(path)
    assert read == set(ours)
    return theirs, tensors, config, model, ours, mapping


@pytest.mark.parametrize("name", CASES)
def test_logits_and_weights(name, tmp_path):
    theirs, tensors, config, model, ours, mapping = pair(CASES[name], tmp_path)
    random = np.random.default_rng(0)
    tokens, mask = random.integers(3, config.vocab_size, (3, 70)), np.ones((3, 70), int)
    mask[2, 50:] = 0
    inputs = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}
    if isinstance(config, EncoderDecoderConfig):
        decoder = random.integers(3, config.vocab_size, (3, 40))
        inputs["decoder_input_ids"] = torch.tensor(decoder)
        segments = {"segment_ids": jnp.ones(decoder.shape, int), "encoder_segment_ids": jnp.asarray(mask)}
        hidden, counted = model(jnp.asarray(decoder), jnp.asarray(tokens), **segments), np.ones(decoder.shape, bool)
    else:
        hidden, counted = model(jnp.asarray(tokens), segment_ids=jnp.asarray(mask)), mask.astype(bool)
    with torch.no_grad():
        expected = theirs(**inputs).logits.numpy()
    logits = np.asarray(model.head.logits(hidden))[..., : config.vocab_size]
    np.testing.assert_allclose(logits[counted], expected[counted], atol=TOLERANCE, rtol=TOLERANCE)
    assert np.abs(expected).max() > 1  # or a model of zeros would pass
    exported = dict(weight_map.write({path: np.asarray(value[...]) for path, value in ours.items()}, mapping))
    assert set(exported) <= set(tensors)
    for tensor, value in exported.items():
        np.testing.assert_array_equal(value, tensors[tensor], err_msg=tensor)


def test_an_encoder_is_no_decoder(tmp_path):
    _, _, config, model, _, _ = pair(CASES["bert"], tmp_path)
    assert isinstance(config, EncoderConfig)
    tokens = np.random.default_rng(0).integers(3, 99, (1, 12))
    changed = tokens.copy()
    changed[0, -1] = 5 if tokens[0, -1] != 5 else 6
    first, second = (model(jnp.asarray(value))[0, 0] for value in (tokens, changed))
    assert float(jnp.abs(first - second).max()) > 1e-4  # the first token sees the last
