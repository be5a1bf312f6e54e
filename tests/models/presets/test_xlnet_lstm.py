"""Presets of XLNet and of recurrent models: counts, config.json, sizes, tiny ones."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.huggingface.families import xlnet as family
from t5x_style.models import specs as parts
from t5x_style.models.presets import lstm, xlnet
from t5x_style.models.serialization import from_json, to_json
from tests import built

PRESETS = {xlnet.xlnet: xlnet.SIZES, lstm.lstm: lstm.SIZES}
EVERY = [(preset, size) for preset, sizes in PRESETS.items() for size in sizes]


def count(config):
    return models.parameter_count(dataclasses.replace(config, vocab_multiple=1))


@pytest.mark.parametrize(
    ("size", "expected"),
    # as transformers' models of these sizes have them (tests/parity/test_xlnet.py), with the bias of the head
    [("base", 116_718_336 + 32_000), ("large", 360_268_800 + 32_000)],
)
def test_xlnet_counts(size, expected):
    assert count(xlnet.xlnet(size)) == expected


@pytest.mark.parametrize(("size", "width"), [("small", 200), ("medium", 650), ("large", 1500)])
def test_lstm_counts(size, width):
    layer = 4 * width * (2 * width + 1)
    assert count(lstm.lstm(size)) == 2 * layer + 2 * 10_000 * width + 10_000
    assert count(lstm.lstm(size, tied_embeddings=True)) == 2 * layer + 10_000 * width + 10_000
    assert count(lstm.lstm(size, cell="rnn", tied_embeddings=True)) == layer // 2 + 10_000 * width + 10_000


@pytest.mark.parametrize(("size", "millions"), [("medium", 20), ("large", 66)])
def test_lstm_counts_as_published(size, millions):
    assert round(count(lstm.lstm(size)) / 1e6) == millions


@pytest.mark.parametrize("size", xlnet.SIZES)
def test_config_json(size):
    config = xlnet.xlnet(size, memory_length=384, reuse_length=256, bidirectional_data=True)
    assert family.from_config(family.to_config(config)) == config
    assert family.to_config(config)["blind_queries"] == "zero"
    released = dataclasses.replace(config, blind="mean")
    assert family.from_config(family.to_config(released)) == released
    assert "blind_queries" not in family.to_config(released)


@pytest.mark.parametrize(("preset", "size"), EVERY)
def test_model_json(preset, size):
    config = preset(size)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize("preset", PRESETS)
def test_tiny_is_small_and_runs(preset):
    assert models.parameter_count(preset("tiny")) <= 500_000
    model, tokens = models.abstract(preset("tiny", vocab_size=40)), jnp.zeros((2, 9), int)
    assert nnx.eval_shape(lambda m: m(tokens), model).shape == (2, 9, 64)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_unknown_size_lists_the_known(preset):
    with pytest.raises(UserError, match=rf"^{preset.__name__}: size '7z' is not known; choose one of tiny, "):
        preset("7z")


def test_xlnet_with_a_task_in_place_of_the_vocabulary():
    task = parts.TaskHeadSpec("sentiment", "classification", ("bad", "good"), pool="last", transform="tanh")
    config = xlnet.xlnet("tiny", vocabulary_head=False, tasks=(task,))
    assert family.from_config(family.to_config(config)) == config
    model, tokens = models.abstract(config), jnp.zeros((3, 5), int)
    assert nnx.eval_shape(lambda m: m.tasks["sentiment"].logits(m(tokens)), model).shape == (3, 2)
    assert models.flops_per_token(config, 8) < models.flops_per_token(xlnet.xlnet("tiny"), 8)


def test_lstm_weights_start_as_in_the_paper():
    model = built.shared(lstm.lstm("tiny"))
    kernel = np.asarray(model.layers[1].recurrent.kernel[...])
    assert float(np.std(kernel)) == pytest.approx(0.1 / 3**0.5, rel=0.05)
    np.testing.assert_array_equal(model.layers[0].input.bias[...], np.repeat([[0.0], [1.0], [0.0], [0.0]], 64, axis=1))
