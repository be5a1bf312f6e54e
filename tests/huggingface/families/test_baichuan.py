"""Baichuan's generations are told apart by config.json; a normalised head is kept as the file has it."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style.huggingface.families import baichuan
from t5x_style.huggingface.weights import weight_map
from tests.parity import pairs
from tests.parity.cases.baichuan import CASES

SMALL = {
    "model_type": "baichuan",
    "vocab_size": 20,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("settings", "alibi", "normalized", "name"),
    [
        ({"max_position_embeddings": 64}, False, False, "BaiChuanForCausalLM"),
        ({"model_max_length": 64}, True, False, "BaichuanForCausalLM"),
        (
            {"max_position_embeddings": 64, "model_max_length": 64, "z_loss_weight": 0},
            False,
            True,
            "BaichuanForCausalLM",
        ),
        ({"model_max_length": 64, "z_loss_weight": 0}, True, True, "BaichuanForCausalLM"),
        ({"model_max_length": 64, "vocab_size": 125696}, True, True, "BaichuanForCausalLM"),
    ],
)
def test_generations_are_told_apart(settings, alibi, normalized, name):
    config = baichuan.from_config({**SMALL, **settings})
    spec = config.layers[0].attention
    assert spec.alibi == alibi
    assert (spec.rope is None) == alibi
    assert config.head.normalized == normalized
    written = baichuan.to_config(config)
    assert written["architectures"] == [name]
    assert baichuan.from_config(written) == config


@pytest.fixture(scope="module")
def pair():
    return pairs.make(CASES["baichuan2-7b"])


@nnx.jit
def logits_of(model, hidden):
    return model.head.logits(hidden)


def test_rows_of_a_normalised_head_come_back_as_they_were(pair):
    head = pair.tensors["lm_head.weight"]
    assert np.linalg.norm(head, axis=1).std() > 0.01  # or there would be nothing to lose
    logits_of(pair.model, np.ones((2, 48), np.float32))
    ours = {path: np.asarray(value[...]) for path, value in pairs.parameters(pair.model).items()}
    written = dict(weight_map.write(ours, pair.mapping))
    np.testing.assert_array_equal(written["lm_head.weight"], head)


def test_logits_do_not_depend_on_the_length_of_rows(pair):
    hidden = np.random.default_rng(0).normal(size=(2, 48)).astype(np.float32)
    before = logits_of(pair.model, hidden)
    changed = nnx.clone(pair.model)
    table = np.asarray(changed.unembedding.table[...])
    scale = np.linspace(0.5, 3.0, table.shape[0], dtype=np.float32)[:, None]
    changed.unembedding.table.set_value(jnp.asarray(table * scale))
    np.testing.assert_allclose(logits_of(changed, hidden), before, rtol=1e-5, atol=1e-6)
