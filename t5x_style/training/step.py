"""One optimizer step as a pure function: gradients over the accumulation, the update, and the guard against bad ones.

A loss is a sum of named terms; each is divided by its own weight over all microbatches together, so that splitting a
batch into microbatches changes nothing but rounding, however unevenly the weights fall: the step minimises
sum(losses[k] * W0 / W[k]) and divides by W0, the largest weight, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5x_style.errors import UserError
from t5x_style.losses.loss import Batch, Now, Sums
from t5x_style.training import randomness
from t5x_style.training.extras import Extra
from t5x_style.training.guard import GuardConfig, update_guard
from t5x_style.training.state import Arrays, TrainState, float32

Metrics = dict[str, jax.Array]
_SMALLEST = 1e-8  # a batch without any weight gives zero gradients, not NaN


class LossProgram(NamedTuple):
    """A loss on arrays.

    Attributes:
      weights: one microbatch -> the weight of each term.
      sums: (trainable, frozen, one microbatch, now) -> Sums.
    """

    weights: Callable[[Batch], dict[str, jax.Array]]
    sums: Callable[[Arrays, Arrays, Batch, Now], Sums]


class StepConfig(NamedTuple):
    """What of a run the step is compiled with.

    Attributes:
      optimizer, learning_rate: the optax transformation, and its schedule for the report.
      guard: see GuardConfig. extras: TrainRun.extras.
      seed: of the random choices. streams: row streams that the batch is made of, which say which row of the global
        batch each row is (global_rows); None: nothing is random.
      gradient_shardings: by flat name, for the accumulated gradients (ZeRO-2), or None.
    """

    optimizer: optax.GradientTransformation
    learning_rate: Callable[[jax.Array], jax.Array]
    guard: GuardConfig = GuardConfig()
    extras: Mapping[str, Extra] = {}
    seed: int = 0
    streams: int | None = None
    gradient_shardings: Any = None


def accumulate(
    program: LossProgram,
    trainable: Arrays,
    frozen: Arrays,
    batch: Mapping[str, jax.Array],
    now: Now,
    *,
    gradient_shardings: Any = None,
    scale: jax.Array | None = None,
) -> tuple[Arrays, jax.Array, jax.Array, dict[str, tuple[jax.Array, jax.Array]]]:
    """Gradients of the loss over all microbatches.

    Args:
      batch: arrays [accumulation, rows, ...]. now: with keys [accumulation, rows], or None.
      scale: the loss is multiplied by it before the backward pass; the gradients are divided by it again.

    Returns:
      (float32 gradients by flat name, the loss, the largest weight of a term, the metrics' (sum, weight)).
    """
    weights = jax.tree.map(lambda array: jnp.sum(array, axis=0), jax.vmap(program.weights)(dict(batch)))

    def total(trainable: Arrays, microbatch: Batch, keys: jax.Array | None) -> tuple[jax.Array, Any]:
        sums = program.sums(trainable, frozen, microbatch, now._replace(keys=keys))
        _, shares = _shares(weights, sums.losses)
        parts = [value if shares is None else value * shares[name] for name, value in sums.losses.items()]
        loss = sum(parts[1:], parts[0])
        return (loss if scale is None else loss * scale), (loss, sums)

    def pin(gradients: Arrays) -> Arrays:
        if gradient_shardings is None:
            return gradients
        return jax.tree.map(jax.lax.with_sharding_constraint, gradients, gradient_shardings)

    def one(microbatch: Batch, keys: jax.Array | None) -> Any:
        (_, sums), gradients = jax.value_and_grad(total, has_aux=True)(trainable, microbatch, keys)
        return pin(float32(gradients)), sums  # in bfloat16 a sum of many microbatches would not grow any more

    first = jax.tree.map(lambda array: array[0], (dict(batch), now.keys))
    if next(iter(batch.values())).shape[0] == 1:
        gradients, (loss, sums) = one(*first)
    else:  # from zeros: a first microbatch outside the loop would double the program

        def add(carry: Any, inputs: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, one(*inputs)), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, *first))
        start = (pin(zeros[0]), zeros[1])
        (gradients, (loss, sums)), _ = jax.lax.scan(add, start, (dict(batch), now.keys))
    largest, _ = _shares(weights, sums.losses)
    inverse = 1 / jnp.maximum(largest, _SMALLEST)
    unscale = inverse if scale is None else inverse / scale
    gradients = jax.tree.map(lambda gradient: gradient * unscale, gradients)
    return gradients, loss * inverse, largest, sums.metrics


def _shares(
    weights: Mapping[str, jax.Array], losses: Mapping[str, jax.Array]
) -> tuple[jax.Array, dict[str, jax.Array] | None]:
    """The largest weight of the terms that a loss gives, and that over each; None where there is only one term."""
    if unknown := sorted(set(losses) - set(weights)):
        raise ValueError(f"the loss gives a term {unknown[0]!r} that its weights() does not name")
    if len(losses) == 1:
        return weights[next(iter(losses))], None
    largest = jnp.max(jnp.stack([weights[name] for name in losses]))
    return largest, {name: jax.lax.stop_gradient(largest / jnp.maximum(weights[name], _SMALLEST)) for name in losses}


def make_train_step(
    program: LossProgram, config: StepConfig
) -> Callable[[TrainState, Arrays, Mapping[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Builds the step; wrap it in jax.jit with the state donated and the frozen arrays not.

    Returns:
      A function of (state, frozen, batch [accumulation, rows, ...]) giving (new state, metrics): loss, weights (the
      largest of a term), gradient_norm (before clipping), learning_rate, skipped, streak, and the loss's own.
    """

    def train_step(state: TrainState, frozen: Arrays, batch: Mapping[str, jax.Array]) -> tuple[TrainState, Metrics]:
        scale = _loss_scale(config.extras, state.extra)
        keys = None
        if config.streams is not None:
            accumulation, rows = next(iter(batch.values())).shape[:2]
            keys = row_keys(config.seed, state.step, global_rows(accumulation, rows, config.streams))
        now = Now(state.step, keys, state.extra)
        gradients, loss, weights, sums = accumulate(
            program,
            state.trainable,
            frozen,
            batch,
            now,
            gradient_shardings=config.gradient_shardings,
            scale=scale,
        )
        norm = optax.global_norm(gradients)
        good, counters = update_guard(state.guard, config.guard, loss, norm, scaled=scale is not None)
        full = float32(state.trainable)
        updates, new_optimizer = config.optimizer.update(gradients, state.optimizer, full)
        new = optax.apply_updates(full, updates)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(good, new.astype(old.dtype), old)

        trainable = jax.tree.map(choose, new, state.trainable)
        told = {**sums, "loss": (loss, jnp.float32(1)), "gradient_norm": (norm, jnp.float32(1))}
        extra = {}
        for name, rule in config.extras.items():
            value = rule.update(state.extra[name], trainable, told, good)
            extra[name] = value if rule.on_bad_steps else jax.tree.map(choose, value, state.extra[name])
        new_state = TrainState(
            step=state.step + 1,
            trainable=trainable,
            optimizer=jax.tree.map(choose, new_optimizer, state.optimizer),
            guard=counters,
            extra=extra,
        )
        return new_state, {
            **means(sums),
            "loss": loss,
            "weights": weights,
            "gradient_norm": norm,
            "learning_rate": jnp.asarray(config.learning_rate(state.step - state.guard.skipped), jnp.float32),
            "skipped": counters.skipped,
            "streak": counters.streak,
        }

    return train_step


def means(sums: Mapping[str, tuple[jax.Array, jax.Array]]) -> Metrics:
    """sum / weight of every metric that is a scalar."""
    return {
        name: value * (1 / jnp.maximum(weight, _SMALLEST))
        for name, (value, weight) in sums.items()
        if jnp.ndim(value) == 0
    }


def row_keys(seed: int, step: jax.Array, rows: np.ndarray) -> jax.Array:
    """One random key a row of the global batch: the same however the batch is split over microbatches and devices."""
    key = randomness.key(seed, step, "dropout")
    return jax.vmap(jax.vmap(lambda row: jax.random.fold_in(key, row)))(jnp.asarray(rows, jnp.int32))


def global_rows(accumulation: int, rows: int, streams: int = 1) -> np.ndarray:
    """Which row of the global batch stands where, [accumulation, rows], if each row stream's rows are numbered in turn.

    Worked example, 8 rows of 2 streams: global_rows(1, 8, 2) is [[0 1 2 3 4 5 6 7]]; in four microbatches of 2 rows
    global_rows(4, 2, 2) is [[0 4] [1 5] [2 6] [3 7]], since the second row of each belongs to the second stream.
    """
    each = rows // streams
    stream, place = np.divmod(np.arange(rows), each)
    return stream * each * accumulation + np.arange(accumulation)[:, None] * each + place


def _loss_scale(extras: Mapping[str, Extra], values: Mapping[str, Any]) -> jax.Array | None:
    scales = [found for name, rule in extras.items() if (found := rule.loss_scale(values[name])) is not None]
    if len(scales) > 1:
        raise UserError("two of TrainRun.extras scale the loss; keep one")
    return scales[0] if scales else None


EvalStep = Callable[
    [Arrays, Arrays, Mapping[str, Any], Mapping[str, jax.Array]], dict[str, tuple[jax.Array, jax.Array]]
]


def make_eval_step(program: LossProgram) -> EvalStep:
    """Builds the evaluation step: (trainable, frozen, extra, batch [accumulation, rows, ...]) -> sums.

    Returns:
      (sum, weight) of the loss's metrics and of every term as "term/NAME", nothing random.
    """

    def eval_step(
        trainable: Arrays, frozen: Arrays, extra: Mapping[str, Any], batch: Mapping[str, jax.Array]
    ) -> dict[str, tuple[jax.Array, jax.Array]]:
        now = Now(jnp.int32(0), None, extra)

        def one(microbatch: Batch) -> Any:
            weights = program.weights(microbatch)
            sums = program.sums(trainable, frozen, microbatch, now)
            terms = {f"term/{name}": (value, weights[name]) for name, value in sums.losses.items()}
            return {**sums.metrics, **terms}

        first = jax.tree.map(lambda array: array[0], dict(batch))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(one, first))
        sums, _ = jax.lax.scan(lambda carry, b: (jax.tree.map(jnp.add, carry, one(b)), None), zeros, dict(batch))
        return sums

    return eval_step
