"""LLaMA against transformers on torch: logits and gradients equal, several configurations, weights both ways."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.huggingface.families.llama import weight_map as rules
from t5x_style.huggingface.weights import weight_map
from t5x_style.losses.cross_entropy import cross_entropy
from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from tests.parity.fast import slow_except
from tests.parity.pairs import parameters

if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
    pytest.skip("torch and transformers are not installed; run `make test-parity`", allow_module_level=True)

import torch
import transformers

pytestmark = pytest.mark.parity
TOLERANCE = 2e-4

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CASES = {
    "mha": {},
    "gqa": {"num_key_value_heads": 2},
    "mqa": {"num_key_value_heads": 1},
    "tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "odd_head_size": {"head_dim": 10, "num_key_value_heads": 4},
    "wide_head": {"head_dim": 32},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "rope_base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    "rope_linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "rope_llama3": {"rope_parameters": {**LLAMA3, "rope_theta": 10000.0}, "num_key_value_heads": 2},
}


def pair(**changes):
    """A random transformers model, our configuration and our model with its weights."""
    settings = {
        "vocab_size": 99,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attn_implementation": "eager",
        **changes,
    }
    theirs_config = transformers.LlamaConfig(**settings)
    torch.manual_seed(0)
    theirs = transformers.LlamaForCausalLM(theirs_config).float().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():  # default weights are too small to show a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    rope = settings.get("rope_parameters", {"rope_type": "default", "rope_theta": 10000.0})
    scaling = None
    if rope["rope_type"] == "linear":
        scaling = parts.RopeScaling("linear", rope["factor"])
    if rope["rope_type"] == "llama3":
        scaling = parts.RopeScaling(
            "llama3",
            rope["factor"],
            rope["low_freq_factor"],
            rope["high_freq_factor"],
            rope["original_max_position_embeddings"],
        )
    config = llama(
        vocab_size=settings["vocab_size"],
        embed_dim=settings["hidden_size"],
        layers=settings["num_hidden_layers"],
        heads=settings["num_attention_heads"],
        kv_heads=settings["num_key_value_heads"],
        head_dim=settings.get("head_dim"),
        mlp_hidden=settings["intermediate_size"],
        rope_base=rope["rope_theta"],
        rope_scaling=scaling,
        norm_epsilon=settings["rms_norm_eps"],
        tied_embeddings=settings["tie_word_embeddings"],
        attention_bias=settings.get("attention_bias", False),
        mlp_bias=settings.get("mlp_bias", False),
        vocab_multiple=16,
    )
    weights = {name: value.detach().numpy() for name, value in theirs.named_parameters()}
    model = models.abstract(config)  # shapes; every value is set below
    ours = parameters(model)
    values = dict(weight_map.read(weights, rules(config), {path: value.shape for path, value in ours.items()}))
    assert set(values) == set(ours)
    for path, value in values.items():
        ours[path].set_value(jnp.asarray(value))
    return theirs, weights, config, model


def flat(state):
    return {"/".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def tokens_of(config, batch=3, length=70):
    return np.random.default_rng(1).integers(0, config.vocab_size, (batch, length))


@pytest.mark.parametrize("name", slow_except(list(CASES), "tied"))
def test_logits_and_gradients(name):
    theirs, _, config, model = pair(**CASES[name])
    tokens = tokens_of(config)
    result = theirs(torch.tensor(tokens), labels=torch.tensor(tokens))
    result.loss.backward()
    graphdef, state = nnx.split(model)

    def loss(state):
        model = nnx.merge(graphdef, state)
        hidden = model(jnp.asarray(tokens))
        targets = np.roll(tokens, -1, axis=1)
        weights = np.ones(tokens.shape, np.float32)
        weights[:, -1] = 0
        total, count, _ = cross_entropy(model.head, hidden, targets, weights, chunk_size=64)
        return total / count, model.head.logits(hidden)

    (value, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(state)
    logits = np.asarray(logits)
    np.testing.assert_allclose(logits[..., : config.vocab_size], result.logits.detach(), atol=TOLERANCE, rtol=TOLERANCE)
    assert float(logits[..., config.vocab_size :].max()) < -1e8
    assert float(value) == pytest.approx(float(result.loss), abs=TOLERANCE)
    ours = dict(weight_map.write(flat(gradient), rules(config)))
    expected = {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}
    assert set(ours) == set(expected)
    for tensor, value in ours.items():
        np.testing.assert_allclose(value, expected[tensor], atol=TOLERANCE, rtol=1e-3, err_msg=tensor)


@pytest.mark.parametrize("name", slow_except(["gqa", "tied", "biases"], "tied"))
def test_import_export_is_bit_identical(name):
    _, weights, config, model = pair(**CASES[name])
    exported = dict(weight_map.write(flat(nnx.state(model)), rules(config)))
    assert set(exported) == set(weights)
    for tensor, value in exported.items():
        np.testing.assert_array_equal(value, weights[tensor])


@pytest.mark.slow
def test_left_padding_and_greedy_generation_equal_transformers():
    from t5x_style.decoding import generate, prepare

    theirs, _, _, model = pair(num_key_value_heads=2)
    prompts = [[5, 6, 7], [8], list(range(10, 27))]
    ours = generate(prepare(model), prompts, 24)
    for prompt, drawn in zip(prompts, ours):
        expected = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert drawn == expected[0, len(prompt) :].tolist()
