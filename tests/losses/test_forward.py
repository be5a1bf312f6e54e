"""Every kind of model learns from batches of its kind, and one of another kind is refused before anything starts."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from t5x_style import models
from t5x_style.checkpoints import parameters
from t5x_style.data.objectives import CausalLM
from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.loss import Now
from t5x_style.models import Execution, flops_per_token
from t5x_style.models.presets import bert, llama, lstm, t5, xlnet
from t5x_style.training import optimizers
from t5x_style.training.fields import check_fields

VOCAB = 96
CONFIGS = {
    "decoder": llama.llama2("tiny", VOCAB),
    "recurrent": lstm.lstm("tiny", VOCAB),
    "encoder": bert.bert("tiny", VOCAB),
    "encoder-decoder": t5.t5_v1_1("tiny", VOCAB),
}


def make_batch(sides):
    """Two packed documents and padding; the decoder copies, the encoder restores its middle tokens."""
    rng = np.random.default_rng(0)
    targets = rng.integers(4, VOCAB, (4, 12)).astype(np.int32)
    segments = np.tile(np.array([1] * 6 + [2] * 4 + [0] * 2, np.int32), (4, 1))
    positions = np.tile(np.array([*range(6), *range(4), 0, 0], np.int32), (4, 1))
    batch = {}
    for side in sides:
        inputs = np.roll(targets, 1, axis=1) if side == "decoder" else np.where(positions == 2, 3, targets)
        batch |= {
            f"{side}_input_tokens": inputs,
            f"{side}_target_tokens": targets,
            f"{side}_loss_weights": (segments > 0).astype(np.float32),
            f"{side}_segment_ids": segments,
            f"{side}_positions": positions,
        }
    return batch


def draw(params, matrices):
    """Matrices from a normal distribution, ones elsewhere: drawing as models.build does costs a long compilation."""
    rng = np.random.default_rng(0)

    def one(leaf, matrix):
        return (0.1 * rng.normal(size=leaf.shape) if matrix else np.ones(leaf.shape)).astype(np.float32)

    return jax.tree.map(one, params, matrices)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_falls_and_padding_does_not_count(kind, quick_to_compile):
    loss_of = CrossEntropy(z_loss=1e-4, max_z_loss=1e-4)
    abstract = nnx.eval_shape(lambda: models.build(CONFIGS[kind], execution=Execution(remat="none", loss_chunk=16)))
    graphdef, state, params = parameters.split(abstract)
    params = draw(params, optimizers.matrices(parameters.logical_axes(state)))
    optimizer = optax.adam(1e-2)
    moments = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), jax.eval_shape(optimizer.init, params))
    batch = make_batch(kind.split("-") if kind != "recurrent" else ["decoder"])

    def mean(params, batch):
        sums = loss_of({"policy": parameters.merge(graphdef, state, params)}, batch, Now(0))
        return sums.losses["cross_entropy"] / loss_of.weights(batch)["cross_entropy"], sums.metrics

    @jax.jit
    def step(params, moments, batch):
        (loss, sums), gradient = jax.value_and_grad(mean, has_aux=True)(params, batch)
        updates, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, updates), moments, loss, sums

    changed = dict(batch)
    for name in batch:
        if name.endswith("input_tokens"):  # other ids, on padding only
            changed[name] = np.where(batch[name.replace("input_tokens", "segment_ids")] > 0, batch[name], 9)
            assert np.any(changed[name] != batch[name])
    other = float(step(params, moments, changed)[2])
    losses = []
    for _ in range(20):
        params, moments, loss, sums = step(params, moments, batch)
        losses.append(float(loss))
    assert other == pytest.approx(losses[0], rel=1e-6)
    assert losses[-1] < 0.7 * losses[0]
    assert {"nll", "z_loss", "max_z_loss", "correct"} <= set(sums)


@pytest.mark.parametrize("kind", ["decoder", "recurrent"])
def test_fitting_objectives_pass(kind):
    check_fields(CrossEntropy(), {"policy": CONFIGS[kind]}, CausalLM())


@pytest.mark.parametrize(
    ("kind", "needs"), [("encoder", "an encoder;"), ("encoder-decoder", "an encoder and a decoder;")]
)
def test_an_objective_for_another_kind_is_refused(kind, needs):
    with pytest.raises(
        UserError, match=rf"reads the fields of {needs} the objective CausalLM makes those of a decoder"
    ):
        check_fields(CrossEntropy(), {"policy": CONFIGS[kind]}, CausalLM())


def test_models_that_no_objective_trains_are_refused():
    with pytest.raises(UserError, match="XLNetConfig, which no objective trains yet"):
        check_fields(CrossEntropy(), {"policy": xlnet.xlnet("tiny")}, CausalLM())


def test_operations_of_an_encoder_decoder_are_those_of_its_parts():
    config = CONFIGS["encoder-decoder"]
    width, layer = config.embed_dim, config.decoder.layers[0]
    heads = layer.attention.heads * layer.attention.head_dim
    matrices = 4 * width * heads + 3 * width * layer.mlp.hidden
    layers = len(config.decoder.layers)
    decoder = layers * (6 * (matrices + 4 * width * heads) + 2 * 12 * heads * 10)
    encoder = len(config.encoder.layers) * (6 * matrices + 12 * heads * 10)
    assert flops_per_token(config, 10) == decoder + encoder + 6 * config.padded_vocab_size * width
