"""One step: exact accumulation, the guard, the update against a hand-written AdamW."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t5x_style.errors import UserError
from t5x_style.losses.loss import Now, Sums
from t5x_style.training import guard as guards
from t5x_style.training import optimizers, schedules, state, step

AXES = {"w": ("embed", "mlp"), "b": ("mlp",)}


def sums(trainable, frozen, batch, now):
    """Weighted squared error of a linear map."""
    error = batch["x"] @ trainable["w"] + trainable["b"] - batch["y"]  # [B, 2]
    total = jnp.sum(jnp.sum(error**2, axis=-1) * batch["weight"])
    return Sums({"error": total}, {"raw": (total, jnp.sum(batch["weight"]))})


PROGRAM = step.LossProgram(lambda batch: {"error": jnp.sum(batch["weight"])}, sums)


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


@jax.jit
def accumulate(params, batch):
    """(gradients, {"loss", "weights"})."""
    gradients, loss, weights, _ = step.accumulate(PROGRAM, params, {}, batch, Now(jnp.int32(0)))
    return gradients, {"loss": loss, "weights": weights}


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
    config = step.StepConfig(transformation, optimizer.schedule, guard or guards.GuardConfig())
    run = jax.jit(step.make_train_step(PROGRAM, config))
    return lambda now, batch: run(now, {}, batch), jax.jit(lambda: state.fresh(params(), transformation, {}))()


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
        np.testing.assert_allclose(train_state.trainable[name], expected[name], rtol=1e-5, atol=1e-6)


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
    before = jax.tree.map(np.asarray, (train_state.trainable, train_state.optimizer))
    bad = make_batch()
    bad["x"][3, 1] = np.inf
    train_state, metrics = run(train_state, split(bad, 1))
    after = jax.tree.map(np.asarray, (train_state.trainable, train_state.optimizer))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert (int(metrics["skipped"]), int(metrics["streak"]), int(train_state.step)) == (1, 1, 2)
    train_state, metrics = run(train_state, split(make_batch(), 1))
    assert (int(metrics["skipped"]), int(metrics["streak"])) == (1, 0)
    assert np.isfinite(float(train_state.guard.norm_average))


def test_spike_is_skipped_only_after_the_warm_up():
    guard = guards.GuardConfig(spike_factor=3.0, warmup_steps=2)
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
    np.testing.assert_allclose(new.trainable["w"], expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [{"beta1": 1.0}, {"clip_norm": 0.0}, {"weight_decay": -0.1}])
def test_wrong_optimizer_values(bad):
    with pytest.raises(UserError):
        optimizers.AdamW(schedules.Constant(0.1), **bad)


def test_eval_step_sums_over_microbatches():
    run = jax.jit(step.make_eval_step(PROGRAM))
    one = run(params(), {}, {}, split(make_batch(), 1))
    four = run(params(), {}, {}, split(make_batch(), 4))
    assert set(one) == {"raw", "term/error"}
    for name in one:
        np.testing.assert_allclose(one[name], four[name], rtol=1e-6)


def two_terms(trainable, frozen, batch, now):
    """A second term over the rows whose first input is positive, with its own weight."""
    first = sums(trainable, frozen, batch, now)
    positive = (batch["x"][:, 0] > 0) * 1.0
    return first._replace(
        losses={**first.losses, "size": 0.1 * jnp.sum(jnp.sum(trainable["w"] ** 2) * positive * batch["x"][:, 1])}
    )


def two_weights(batch):
    return {"error": jnp.sum(batch["weight"]), "size": jnp.sum((batch["x"][:, 0] > 0) * 1.0), "unused": jnp.float32(9)}


def test_every_term_is_divided_by_its_own_weight():
    program = step.LossProgram(two_weights, two_terms)
    found = jax.jit(lambda params, batch: step.accumulate(program, params, {}, batch, Now(jnp.int32(0)))[:3])
    batch = make_batch()

    def loss(trainable):
        total, weights = two_terms(trainable, {}, batch, None).losses, two_weights(batch)
        return total["error"] / weights["error"] + total["size"] / weights["size"]

    value, expected = jax.value_and_grad(loss)(params())
    for parts in (1, 4):
        gradients, total, largest = found(params(), split(batch, parts))
        assert float(total) == pytest.approx(float(value), rel=1e-6)
        assert float(largest) == pytest.approx(max(float(two_weights(batch)[name]) for name in ("error", "size")))
        for name, gradient in gradients.items():
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_a_term_without_a_weight_is_named():
    program = step.LossProgram(lambda batch: {"error": jnp.sum(batch["weight"])}, two_terms)
    with pytest.raises(ValueError, match="term 'size' that its weights"):
        step.accumulate(program, params(), {}, split(make_batch(), 1), Now(jnp.int32(0)))


def test_frozen_arrays_are_read_and_not_donated():
    def with_frozen(trainable, frozen, batch, now):
        return sums({"w": trainable["w"] + frozen["table"].astype(jnp.float32), "b": trainable["b"]}, {}, batch, now)

    optimizer = optimizers.AdamW(schedules.Constant(0.1))
    transformation = optimizer.build(AXES)
    config = step.StepConfig(transformation, optimizer.schedule)
    run = jax.jit(step.make_train_step(PROGRAM._replace(sums=with_frozen), config), donate_argnums=0)
    train_state = jax.jit(lambda: state.fresh(params(), transformation, {}))()
    frozen = {"table": jnp.ones((3, 2), jnp.uint8)}  # as a quantised table: whole numbers have no gradient
    for _ in range(2):
        train_state, metrics = run(train_state, frozen, split(make_batch(), 2))
    assert np.isfinite(float(metrics["loss"]))
    np.testing.assert_array_equal(frozen["table"], 1)


def test_optimizer_works_in_float32_whatever_the_parameters_are():
    optimizer = optimizers.AdamW(schedules.Constant(1e-2))
    transformation = optimizer.build(AXES)
    half = {name: value.astype(jnp.bfloat16) for name, value in params().items()}
    train_state = jax.jit(lambda: state.fresh(half, transformation, {}))()
    moments = [leaf for leaf in jax.tree.leaves(train_state.optimizer) if leaf.ndim]
    assert {leaf.dtype for leaf in moments} == {np.dtype("float32")}
    run = jax.jit(step.make_train_step(PROGRAM, step.StepConfig(transformation, optimizer.schedule)))
    train_state, _ = run(train_state, {}, split(make_batch(), 2))
    assert {leaf.dtype for leaf in train_state.trainable.values()} == {jnp.dtype("bfloat16")}


def test_microbatches_of_bfloat16_parameters_are_added_in_float32():
    """256 equal microbatches: in bfloat16 the sum would stop growing at a fraction."""
    half = {name: value.astype(jnp.bfloat16) for name, value in params().items()}
    one = make_batch()
    many = jax.tree.map(lambda array: np.broadcast_to(array, (256, *array.shape)), one)
    found, _ = accumulate(half, many)
    expected, _ = accumulate(half, split(one, 1))
    for name, gradient in found.items():
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient, expected[name], rtol=1e-5)


def test_rows_of_the_global_batch():
    np.testing.assert_array_equal(step.global_rows(1, 8, 2), [range(8)])
    np.testing.assert_array_equal(step.global_rows(4, 2, 2), [[0, 4], [1, 5], [2, 6], [3, 7]])
    np.testing.assert_array_equal(step.global_rows(2, 4), [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_random_choices_do_not_depend_on_accumulation():
    def noisy(trainable, frozen, batch, now):
        noise = jax.vmap(lambda key: jax.random.normal(key, (3,)))(now.keys)
        return sums(trainable, frozen, {**batch, "x": batch["x"] + noise}, now)

    optimizer = optimizers.AdamW(schedules.Constant(0.1))
    transformation = optimizer.build(AXES)
    found = []
    for parts in (1, 4):
        config = step.StepConfig(transformation, optimizer.schedule, seed=3, streams=1)
        run = jax.jit(step.make_train_step(PROGRAM._replace(sums=noisy), config))
        train_state = jax.jit(lambda: state.fresh(params(), transformation, {}))()
        losses = []
        for _ in range(2):
            train_state, metrics = run(train_state, {}, split(make_batch(), parts))
            losses.append(float(metrics["loss"]))
        found.append(losses)
    assert found[0] == pytest.approx(found[1], rel=5e-7)
    assert abs(found[0][0] - float(accumulate(params(), split(make_batch(), 1))[1]["loss"])) > 0.01
