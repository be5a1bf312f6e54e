"""Router losses reach the training loss, its gradient and the metrics; models without experts are as before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style import models
from t5x_style.checkpoints import parameters
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.loss import Now, Sums
from t5x_style.losses.routers import router_terms
from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from t5x_style.training.step import LossProgram, accumulate, means

LOSS, NOW = CrossEntropy(), Now(0)
pytestmark = pytest.mark.usefixtures("quick_to_compile")


def test_worked_example():
    losses = {"moe_balance": jnp.float32(0.5), "moe_dropped": jnp.float32(0.1)}
    terms = router_terms(losses, jnp.float32(3))
    assert {name: float(value) for name, value in terms.losses.items()} == {"router": 1.5}
    assert [float(value) for value in terms.metrics["moe_dropped"]] == pytest.approx([0.3, 3])


def test_no_experts_no_term():
    assert router_terms({}, jnp.float32(3)) == Sums({}, {})


def configuration(balance_weight):
    """Two layers of experts, in one scan."""
    config = llama(50, 16, 2, 2, mlp_hidden=16, vocab_multiple=16)
    layer = config.segments[0].pattern[0]
    moe = parts.MoeSpec(3, 1, parts.MlpSpec(16), "capacity", capacity_factor=0.5, balance_weight=balance_weight)
    return dataclasses.replace(config, segments=(parts.LayerGroup((dataclasses.replace(layer, mlp=moe),), 2),))


def gradients_and_metrics(*balance_weights):
    """What `accumulate` returns for two microbatches under each weight, the parameters being the same."""
    execution = models.Execution(remat="none", loss_chunk=16)
    abstract = [models.abstract(configuration(weight), execution=execution) for weight in balance_weights]
    parted = [parameters.split(model) for model in abstract]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.2 * random.normal(size=leaf.shape).astype(np.float32), parted[0][2])
    shape = (2, 2, 12)
    batch = {
        "decoder_input_tokens": random.integers(0, 50, shape),
        "decoder_target_tokens": random.integers(0, 50, shape),
        "decoder_segment_ids": np.ones(shape, int),
        "decoder_positions": np.broadcast_to(np.arange(12), shape),
        "decoder_loss_weights": random.random(shape).astype(np.float32),
    }

    @jax.jit
    def program(params, batch):
        found = []
        for graphdef, state, _ in parted:

            def sums(params, frozen, batch, now, graphdef=graphdef, state=state):
                return LOSS({"policy": parameters.merge(graphdef, state, params)}, batch, now)

            gradients, loss, _, metrics = accumulate(LossProgram(LOSS.weights, sums), params, {}, batch, NOW)
            found.append((gradients, {"loss": loss, **means(metrics)}))
        return found

    return program(params, batch)


def test_training_sees_them():
    (gradients, metrics), (without, plain) = gradients_and_metrics(0.5, 0.0)
    assert float(metrics["loss"] - metrics["nll"]) == pytest.approx(float(metrics["moe_balance"]), abs=1e-5)
    assert float(metrics["nll"]) == pytest.approx(float(plain["nll"]), abs=1e-6)
    assert float(metrics["moe_balance"]) >= 0.9  # two layers, .5 each, 1 when even
    assert 0 < float(metrics["moe_dropped"]) < 2
    router = [leaf for path, leaf in jax.tree.leaves_with_path(gradients) if "router" in jax.tree_util.keystr(path)]
    other = [leaf for path, leaf in jax.tree.leaves_with_path(without) if "router" in jax.tree_util.keystr(path)]
    assert router
    assert not np.allclose(router[0], other[0], atol=1e-6)
