"""Values beside the parameters: an average, and rules of a user's own, each under 40 lines."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.loss import Sums
from t5x_style.training import optimizers, schedules, state, step
from t5x_style.training.extras import Ema, Extra

AXES = {"w": ("embed", "mlp")}


@dataclasses.dataclass(frozen=True)
class LossScale(Extra):
    """Dynamic loss scaling (Micikevicius et al. 2018, section 3.2): halved on an overflow, doubled after `every`."""

    start: float = 2.0**15
    every: int = 2
    on_bad_steps = True

    def init(self, trainable):
        return {"scale": jnp.float32(self.start), "good": jnp.int32(0)}

    def update(self, value, trainable, metrics, applied):
        good = jnp.where(applied, value["good"] + 1, 0)
        grown = good >= self.every
        scale = jnp.where(applied, jnp.where(grown, 2 * value["scale"], value["scale"]), value["scale"] / 2)
        return {"scale": scale, "good": jnp.where(grown, 0, good)}

    def loss_scale(self, value):
        return value["scale"]


@dataclasses.dataclass(frozen=True)
class AdaptiveKl(Extra):
    """The coefficient that holds a divergence at its target (Ziegler et al. 2019, section 2.2)."""

    target: float = 1.0
    horizon: float = 10.0

    def init(self, trainable):
        return jnp.float32(0.2)

    def update(self, value, trainable, metrics, applied):
        total, weight = metrics["divergence"]
        error = jnp.clip((total / weight) / self.target - 1, -0.2, 0.2)
        return value * (1 + error / self.horizon)


@dataclasses.dataclass(frozen=True)
class DoReMi(Extra):
    """Domain weights by exponentiated gradient on the excess loss (Xie et al. 2023, algorithm 1)."""

    domains: int
    rate: float = 1.0
    smoothing: float = 1e-3

    def init(self, trainable):
        return jnp.full(self.domains, 1 / self.domains)

    def update(self, value, trainable, metrics, applied):
        total, weight = metrics["excess"]
        moved = value * jnp.exp(self.rate * jnp.maximum(total / jnp.maximum(weight, 1), 0))
        return (1 - self.smoothing) * moved / jnp.sum(moved) + self.smoothing / self.domains


def sums(trainable, frozen, batch, now):
    """Squared error, with what the rules above read; the error of a domain is weighted by DoReMi's weight."""
    error = jnp.sum((batch["x"] @ trainable["w"]) ** 2, axis=-1)
    weight = jnp.float32(error.shape[0])
    domains = jax.nn.one_hot(batch["domain"], 3)
    shares = now.extra.get("doremi", jnp.ones(3))
    metrics = {
        "divergence": (jnp.sum(error) * 0 + 2 * weight, weight),
        "excess": (jnp.sum(error[:, None] * domains, axis=0), jnp.sum(domains, axis=0)),
    }
    return Sums({"error": jnp.sum(error * shares[batch["domain"]]) * now.extra.get("kl", 1.0)}, metrics)


PROGRAM = step.LossProgram(lambda batch: {"error": jnp.float32(batch["x"].shape[0])}, sums)


def batch(value=1.0, parts=2):
    random = np.random.default_rng(0)
    x = random.normal(size=(8, 3)).astype(np.float32) * value
    return {"x": x.reshape(parts, -1, 3), "domain": np.arange(8).reshape(parts, -1) % 3}


def run(extras, batches):
    """The states after each batch."""
    optimizer = optimizers.AdamW(schedules.Constant(0.01))
    transformation = optimizer.build(AXES)
    config = step.StepConfig(transformation, optimizer.schedule, extras=extras)
    one = jax.jit(step.make_train_step(PROGRAM, config), donate_argnums=0)
    start = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    now = jax.jit(lambda: state.fresh({"w": jnp.asarray(start)}, transformation, extras))()
    found = []
    for given in batches:
        now, metrics = one(now, {}, given)
        found.append((jax.tree.map(np.asarray, now), jax.tree.map(float, metrics)))
    return found


def test_average_follows_the_formula_and_skips_bad_steps():
    found = run({"ema": Ema(0.9, warmup=False)}, [batch(), batch(np.inf), batch()])
    start = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    first, skipped, last = (now for now, _ in found)
    expected = 0.9 * start + 0.1 * first.trainable["w"]
    np.testing.assert_allclose(first.extra["ema"]["average"]["w"], expected, rtol=1e-6)
    np.testing.assert_array_equal(skipped.extra["ema"]["average"]["w"], first.extra["ema"]["average"]["w"])
    expected = 0.9 * expected + 0.1 * last.trainable["w"]
    np.testing.assert_allclose(last.extra["ema"]["average"]["w"], expected, rtol=1e-6)


def test_average_forgets_its_start_while_it_warms_up():
    (now, _), *_ = run({"ema": Ema(0.999)}, [batch()])
    start = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    expected = start + (1 - 2 / 11) * (now.trainable["w"] - start)
    np.testing.assert_allclose(now.extra["ema"]["average"]["w"], expected, rtol=1e-6)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_decay_outside_its_range(decay):
    with pytest.raises(UserError, match=r"Ema\.decay"):
        Ema(decay)


def test_loss_scale_falls_on_an_overflow_which_is_no_strike_and_changes_no_gradient():
    found = run({"scale": LossScale()}, [batch(), batch(np.inf), batch(), batch()])
    plain = run({}, [batch(), batch(np.inf), batch(), batch()])
    assert [float(now.extra["scale"]["scale"]) for now, _ in found] == [2.0**15, 2.0**14, 2.0**14, 2.0**15]
    assert [metrics["streak"] for _, metrics in found] == [0, 0, 0, 0]
    assert [metrics["streak"] for _, metrics in plain] == [0, 1, 0, 0]
    assert [metrics["skipped"] for _, metrics in found] == [0, 1, 1, 1]
    for (now, metrics), (other, expected) in zip(found, plain, strict=True):
        np.testing.assert_allclose(now.trainable["w"], other.trainable["w"], rtol=1e-6)
        assert metrics["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-6, nan_ok=True)


def test_adaptive_coefficient_moves_towards_the_target_and_the_loss_reads_it():
    found = run({"kl": AdaptiveKl()}, [batch(), batch()])
    plain = run({}, [batch()])
    assert [float(now.extra["kl"]) for now, _ in found] == pytest.approx([0.2 * 1.02, 0.2 * 1.02**2])
    assert found[0][1]["loss"] == pytest.approx(0.2 * plain[0][1]["loss"], rel=1e-6)


def test_domain_weights_see_sums_by_source():
    rule = DoReMi(3, rate=0.1)
    ((now, metrics),) = run({"doremi": rule}, [batch()])
    start = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)
    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    error = np.sum((x @ start) ** 2, axis=-1)
    excess = np.array([error[np.arange(8) % 3 == domain].mean() for domain in range(3)])
    moved = np.exp(0.1 * excess) / 3
    expected = (1 - 1e-3) * moved / moved.sum() + 1e-3 / 3
    np.testing.assert_allclose(now.extra["doremi"], expected, rtol=1e-5)
    assert "excess" not in metrics  # only scalars are reported


def test_two_scales_are_refused():
    with pytest.raises(UserError, match="extras scale the loss"):
        run({"a": LossScale(), "b": LossScale()}, [batch()])
