"""Smoothed targets against the dense formula over the vocabulary alone, padded ids left out."""

import jax
import jax.numpy as jnp
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.forward import forward
from t5x_style.losses.label_smoothing import LabelSmoothing
from t5x_style.losses.loss import Sums
from t5x_style.models import specs as parts
from t5x_style.models.presets.xlnet import xlnet
from tests.losses import checks

pytestmark = pytest.mark.usefixtures("quick_to_compile")
SEGMENTS = [[1] * 7 + [2] * 3 + [0] * 2, [1] * 12, [1, 1, 2, 2, 2, 3, 3, 3, 3, 0, 0, 0]]


def dense(smoothing):
    def naive(models, batch, now):
        passed = forward(models["policy"], batch)
        log_p = jax.nn.log_softmax(models["policy"].head.logits(passed.hidden)[..., : checks.VOCAB])
        even = jnp.full((checks.VOCAB,), smoothing / checks.VOCAB)
        target = even + (1 - smoothing) * jax.nn.one_hot(passed.targets, checks.VOCAB)
        nll = -jnp.sum(passed.weights * jnp.take_along_axis(log_p, passed.targets[..., None], axis=-1)[..., 0])
        return Sums({"cross_entropy": jnp.sum(passed.weights * -jnp.sum(target * log_p, -1))}, {"nll": (nll, 1)})

    return naive


def test_equals_the_dense_formula():
    loss, models = LabelSmoothing(0.2), {"policy": checks.model(checks.decoder())}
    batch = checks.batch("decoder", SEGMENTS)
    found = checks.program(loss, models)(batch)
    expected = checks.program(loss, models, dense(0.2))(batch)
    checks.assert_equal(found, expected)
    assert float(found[0].metrics["nll"][0]) == pytest.approx(float(expected[0].metrics["nll"][0]), rel=1e-5)
    assert float(found[1]["cross_entropy"]) == pytest.approx(batch["decoder_loss_weights"].sum())
    checks.assert_accumulates(loss, models, batch)
    checks.assert_nothing(loss, models, {**batch, "decoder_loss_weights": 0 * batch["decoder_loss_weights"]})


def test_routers_are_a_term_of_their_own():
    """Means of a row that count once a row."""
    moe = parts.MoeSpec(4, 2, parts.MlpSpec(16), balance_weight=0.1)
    config = checks.decoder(block=checks.layer(moe))
    batch = checks.batch("decoder", SEGMENTS)
    sums, weights = checks.losses_of(LabelSmoothing(), {"policy": checks.model(config)})(batch)
    assert set(sums.losses) == {"cross_entropy", "router"}
    assert float(weights["router"]) == len(SEGMENTS)
    reported = sum(float(value) for name, (value, _) in sums.metrics.items() if name in ("moe_balance", "moe_z"))
    assert float(sums.losses["router"]) == pytest.approx(reported)
    assert reported / float(weights["router"]) > 0.1


def test_reads_the_fields_of_each_kind_of_model():
    def sides(config):
        return {field.split("_")[0] for field in LabelSmoothing().reads({"policy": config})}

    assert sides(checks.decoder()) == {"decoder"}
    assert sides(checks.encoder()) == {"encoder"}
    assert sides(checks.encoder_decoder()) == {"encoder", "decoder"}


def test_refuses():
    with pytest.raises(UserError, match=r"LabelSmoothing\.smoothing is 1\.5"):
        LabelSmoothing(1.5)
    with pytest.raises(UserError, match="XLNetConfig, which no objective trains yet"):
        LabelSmoothing().reads({"policy": xlnet("tiny")})
    with pytest.raises(UserError, match="head=None"):
        LabelSmoothing().reads({"policy": checks.decoder(head=None)})
