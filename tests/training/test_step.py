"""One step: exact accumulation, the guard, the update against a hand-written AdamW."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.training import optimizers, schedules, state, step

AXES = {"w": ("embed", "mlp"), "b": ("mlp",)}


def loss_function(params, batch):
    """Weighted squared error of a linear map, as sums."""
    error = batch["x"] @ params["w"] + params["b"] - batch["y"]  # [B, 2]
    per_row = jnp.sum(error**2, axis=-1)
    return jnp.sum(per_row * batch["weight"]), jnp.sum(batch["weight"]), {"raw": jnp.sum(per_row * batch["weight"])}


def make_batch(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(rows, 3)).astype(np.float32),
        "y": rng.normal(size=(rows, 2)).astype(np.float32),
        "weight": np.array([1, 0, 0.5, 2, 0, 0, 1, 0.25], np.float32)[:rows],
    }


def params():
    rng = np.random.default_rng(1)
    return {"w": rng.normal(size=(3, 2)).astype(np.float32), "b": np.zeros(2, np.float32)}


def split(batch, parts):
    return jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)


accumulate = jax.jit(functools.partial(step.accumulate, loss_function))


@pytest.mark.parametrize("parts", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)])
def test_accumulation_equals_one_batch_with_uneven_weights(parts):
    whole, metrics = accumulate(params(), split(make_batch(), 1))
    parted, parted_metrics = accumulate(params(), split(make_batch(), parts))
    for name in whole:
        np.testing.assert_allclose(whole[name], parted[name], rtol=1e-5, atol=1e-6)
    assert metrics["loss"] == pytest.approx(float(parted_metrics["loss"]), rel=1e-6)
    assert float(parted_metrics["weights"]) == 4.75


def test_batch_without_weights_changes_nothing():
    batch = split({**make_batch(), "weight": np.zeros(8, np.float32)}, 2)
    gradients, metrics = accumulate(params(), batch)
    assert all(np.all(np.asarray(gradient) == 0) for gradient in gradients.values())
    assert metrics["loss"] == 0


def make_step(optimizer, guard=None):
    transformation = optimizer.build(AXES)
    run = step.make_train_step(loss_function, transformation, optimizer.schedule, guard or step.GuardConfig())
    return jax.jit(run), jax.jit(lambda: state.fresh(params(), transformation))()


def test_adamw_against_the_formula():
    optimizer = optimizers.AdamW(
        schedules.Constant(0.1), beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.2, clip_norm=0.5
    )
    run, train_state = make_step(optimizer)
    expected = {name: np.asarray(value, np.float64) for name, value in params().items()}
    mean = {name: np.zeros_like(value) for name, value in expected.items()}
    square = {name: np.zeros_like(value) for name, value in expected.items()}
    for number in range(1, 4):
        batch = make_batch(seed=number)
        as_jax = {name: value.astype(np.float32) for name, value in expected.items()}
        gradients, _ = accumulate(as_jax, split(batch, 1))
        norm = np.sqrt(sum(np.sum(np.square(np.asarray(value, np.float64))) for value in gradients.values()))
        for name in expected:
            gradient = np.asarray(gradients[name], np.float64) * min(1, 0.5 / norm)
            mean[name] = 0.9 * mean[name] + 0.1 * gradient
            square[name] = 0.95 * square[name] + 0.05 * gradient**2
            update = (mean[name] / (1 - 0.9**number)) / (np.sqrt(square[name] / (1 - 0.95**number)) + 1e-8)
            decay = 0.2 * expected[name] if name == "w" else 0  # the bias is not decayed
            expected[name] = expected[name] - 0.1 * (update + decay)
        train_state, metrics = run(train_state, split(batch, 2))
        assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    for name in expected:
        np.testing.assert_allclose(train_state.params[name], expected[name], rtol=1e-5, atol=1e-6)


def test_decay_mask_sees_through_stacked_layers():
    axes = {
        "norm": ("layers", "embed"),
        "matrix": ("layers", "embed", "mlp"),
        "table": ("vocab", "embed"),
        "b": ("mlp",),
    }
    assert optimizers.matrices(axes) == {"norm": False, "matrix": True, "table": True, "b": False}


def test_update_that_is_not_finite_is_skipped_and_counted():
    run, train_state = make_step(optimizers.AdamW(schedules.Constant(0.1)))
    train_state, _ = run(train_state, split(make_batch(), 1))
    before = jax.tree.map(np.asarray, (train_state.params, train_state.optimizer))
    bad = make_batch()
    bad["x"][3, 1] = np.inf
    train_state, metrics = run(train_state, split(bad, 1))
    after = jax.tree.map(np.asarray, (train_state.params, train_state.optimizer))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (int(metrics["skipped"]), int(metrics["streak"]), int(train_state.step)) == (1, 1, 2)
    train_state, metrics = run(train_state, split(make_batch(), 1))
    assert (int(metrics["skipped"]), int(metrics["streak"])) == (1, 0)
    assert np.isfinite(float(train_state.guard.norm_average))


def test_spike_is_skipped_only_after_the_warm_up():
    guard = step.GuardConfig(spike_factor=3.0, warmup_steps=2)
    run, train_state = make_step(optimizers.AdamW(schedules.Constant(1e-4)), guard)
    loud = {**make_batch(), "y": make_batch()["y"] * 1000}
    _, metrics = run(train_state, split(loud, 1))
    assert int(metrics["skipped"]) == 0
    for _ in range(2):
        train_state, _ = run(train_state, split(make_batch(), 1))
    _, metrics = run(train_state, split(loud, 1))
    assert int(metrics["skipped"]) == 1


def test_lion_moves_by_the_sign():
    optimizer = optimizers.Lion(schedules.Constant(0.01), weight_decay=0.0, clip_norm=None)
    run, train_state = make_step(optimizer)
    gradients, _ = accumulate(params(), split(make_batch(), 1))
    new, _ = run(train_state, split(make_batch(), 1))
    expected = params()["w"] - 0.01 * np.sign(gradients["w"])
    np.testing.assert_allclose(new.params["w"], expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"beta1": 1.0}, {"clip_norm": 0.0}, {"weight_decay": -0.1}])
def test_wrong_optimizer_values(bad):
    with pytest.raises(UserError):
        optimizers.AdamW(schedules.Constant(0.1), **bad)


def test_eval_step_sums_over_microbatches():
    run = jax.jit(step.make_eval_step(loss_function))
    one = run(params(), split(make_batch(), 1))
    four = run(params(), split(make_batch(), 4))
    np.testing.assert_allclose(one, four, rtol=1e-6)
