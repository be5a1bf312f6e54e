"""Router losses reach the training loss, its gradient and the metrics, row by row; none without experts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style import models
from t5x_style.checkpoints import parameters
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.loss import Now, Sums
from t5x_style.losses.routers import router_terms, router_weight
from t5x_style.models import specs as parts
from t5x_style.models.presets.llama import llama
from t5x_style.training.step import LossProgram, accumulate, means
from tests.losses import checks

LOSS, NOW = CrossEntropy(), Now(0)
pytestmark = pytest.mark.usefixtures("quick_to_compile")


SEGMENTS = np.array([[1] * 12, [1, 1, 2, 2, 2] + [0] * 7, [1] + [0] * 11, [0] * 12])  # rows of uneven content


def test_worked_example():
    segments = {"decoder_segment_ids": np.array([[1, 1], [1, 0], [0, 0]])}
    losses = {"moe_balance": jnp.array([0.5, 0.7, 0]), "moe_dropped": jnp.array([0.1, 0, 0])}
    terms = router_terms(losses, segments)
    assert {name: float(value) for name, value in terms.losses.items()} == {"router": pytest.approx(1.2)}
    assert float(router_weight(segments)) == 2
    assert [float(value) for value in terms.metrics["moe_dropped"]] == pytest.approx([0.1, 2])


def test_rows_of_two_sides_count_once():
    encoder, decoder = np.array([[1, 0], [0, 0], [0, 0]]), np.array([[1, 2], [1, 0], [0, 0]])
    assert float(router_weight({"encoder_segment_ids": encoder, "decoder_segment_ids": decoder})) == 2


def test_no_experts_no_term():
    assert router_terms({}, {}) == Sums({}, {})


def configuration(balance_weight):
    """Two layers of experts, in one scan."""
    config = llama(50, 16, 2, 2, mlp_hidden=16, vocab_multiple=16)
    layer = config.segments[0].pattern[0]
    moe = parts.MoeSpec(3, 1, parts.MlpSpec(16), "capacity", capacity_factor=0.5, balance_weight=balance_weight)
    return dataclasses.replace(config, segments=(parts.LayerGroup((dataclasses.replace(layer, mlp=moe),), 2),))


def rows_of(side, segments, vocab=50):
    """A batch [1, B, L] of one side."""
    fields = checks.batch(side, segments, weights=(0.25, 1.0))
    return {name: array % vocab if "tokens" in name else array for name, array in fields.items()}


def gradients_and_metrics(configs, batch):
    """What `accumulate` returns for microbatches [N, B, L] under each configuration, the parameters being the same."""
    execution = models.Execution(remat="none", loss_chunk=16)
    parted = [parameters.split(models.abstract(config, execution=execution)) for config in configs]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.2 * random.normal(size=leaf.shape).astype(np.float32), parted[0][2])

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
    batch = {name: array.reshape(2, 2, 12) for name, array in rows_of("decoder", np.ones_like(SEGMENTS)).items()}
    configs = [configuration(weight) for weight in (0.5, 0.0)]
    (gradients, metrics), (without, plain) = gradients_and_metrics(configs, batch)
    assert float(metrics["loss"] - metrics["nll"]) == pytest.approx(float(metrics["moe_balance"]), abs=1e-5)
    assert float(metrics["nll"]) == pytest.approx(float(plain["nll"]), abs=1e-6)
    assert float(metrics["moe_balance"]) >= 0.9  # two layers, .5 each, 1 when even
    assert 0 < float(metrics["moe_dropped"]) < 2
    router = [leaf for path, leaf in jax.tree.leaves_with_path(gradients) if "router" in jax.tree_util.keystr(path)]
    other = [leaf for path, leaf in jax.tree.leaves_with_path(without) if "router" in jax.tree_util.keystr(path)]
    assert router
    assert not np.allclose(router[0], other[0], atol=1e-6)


def both_sides():
    """Experts in both stacks, and a batch whose rows are uneven on both; the third has only a decoder's tokens."""
    moe = parts.MoeSpec(4, 2, parts.MlpSpec(16), balance_weight=0.5, z_weight=0.1)
    sizes = {"vocab_size": 50, "vocab_multiple": 16}
    encoder = checks.stack(parts.EncoderConfig, parts.LayerGroup((checks.layer(moe, causal=False),), 1), **sizes)
    decoder = checks.stack(parts.TransformerConfig, parts.LayerGroup((checks.layer(moe, cross=True),), 1), **sizes)
    sources = np.array([[1] * 7 + [2] * 5, [1, 2, 2, 2, 2, 2] + [0] * 6, [0] * 12, [0] * 12])
    batch = {**rows_of("encoder", sources), **rows_of("decoder", SEGMENTS)}
    return parts.EncoderDecoderConfig(encoder, decoder), batch


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_accumulation_changes_nothing(kind):
    """Four rows of 12, 5, 1 and no tokens at once and one by one; weighted by tokens they differed by 1e-2."""
    config, batch = both_sides() if kind == "encoder-decoder" else (configuration(0.5), rows_of("decoder", SEGMENTS))
    if kind == "encoder-decoder":
        batch = {
            name: array
            for name, array in batch.items()
            if name not in ("encoder_target_tokens", "encoder_loss_weights")
        }
    ways = []
    for microbatches in (1, 4):
        cut = {name: array.reshape(microbatches, 4 // microbatches, 12) for name, array in batch.items()}
        ways += gradients_and_metrics([config], cut)
    (one, metrics), (other, others) = ways
    assert float(metrics["loss"]) > float(metrics["nll"]) + 0.1
    for name, value in metrics.items():
        assert float(others[name]) == pytest.approx(float(value), abs=1e-6), name
    for found, expected in zip(*map(jax.tree.leaves, (other, one)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
