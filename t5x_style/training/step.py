"""One optimizer step as a pure function: gradients over the accumulation, the update, and the guard against bad ones.

The loss of a step is (sum of weighted token losses) / (sum of weights) over all microbatches together, so that
splitting a batch into microbatches changes nothing but rounding, however unevenly the weights fall.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style.training.state import Guard, Params, TrainState

# Takes parameters and one microbatch (arrays [batch, length]); returns (sum of weighted losses, sum of weights,
# further sums to report, each divided by the weights in the end).
LossFunction = Callable[[Params, dict[str, jax.Array]], tuple[jax.Array, jax.Array, dict[str, jax.Array]]]
Metrics = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """When an update is left out, and when the run gives up.

    Attributes:
      spike_factor: a gradient norm above this many times its running mean skips the update; 0 switches it off.
        An update that is not finite is always skipped.
      warmup_steps: good steps before spikes are judged.
      decay: of the running mean.
      patience: skipped updates in a row after which the run stops.
    """

    spike_factor: float = 0.0
    warmup_steps: int = 100
    decay: float = 0.99
    patience: int = 20


def accumulate(
    loss_function: LossFunction, params: Params, batch: dict[str, jax.Array], gradient_shardings: Any = None
) -> tuple[Params, Metrics]:
    """Gradients of the mean loss over all microbatches.

    Args:
      loss_function: see LossFunction.
      params: the parameters.
      batch: arrays [accumulation, batch, length].
      gradient_shardings: a tree of shardings for the accumulated gradients (ZeRO-2), or None.

    Returns:
      (gradients like `params`, {"loss", "weights", and the loss function's own sums divided by the weights}).
    """

    def total(params: Params, microbatch: dict[str, jax.Array]) -> tuple[jax.Array, tuple]:
        loss, weights, extra = loss_function(params, microbatch)
        return loss, (weights, extra)

    def pin(gradients: Params) -> Params:
        if gradient_shardings is None:
            return gradients
        return jax.tree.map(jax.lax.with_sharding_constraint, gradients, gradient_shardings)

    def one(microbatch: dict[str, jax.Array]) -> tuple[Params, Metrics]:
        (loss, (weights, extra)), gradients = jax.value_and_grad(total, has_aux=True)(params, microbatch)
        return pin(gradients), {"loss": loss, "weights": weights, **extra}

    steps = next(iter(batch.values())).shape[0]
    gradients, sums = one(jax.tree.map(lambda array: array[0], batch))
    if steps > 1:

        def add(carry: Any, microbatch: dict[str, jax.Array]) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, one(microbatch)), None

        rest = jax.tree.map(lambda array: array[1:], batch)
        (gradients, sums), _ = jax.lax.scan(add, (gradients, sums), rest)
    weights = sums.pop("weights")
    scale = 1 / jnp.maximum(weights, 1e-8)  # a batch without any weight gives zero gradients, not NaN
    metrics = {name: value * scale for name, value in sums.items()}
    return jax.tree.map(lambda gradient: gradient * scale.astype(gradient.dtype), gradients), {
        **metrics,
        "weights": weights,
    }


def update_guard(guard: Guard, config: GuardConfig, loss: jax.Array, norm: jax.Array) -> tuple[jax.Array, Guard]:
    """Decides inside the step whether its update counts.

    Returns:
      (bool [], the counters after this step).
    """
    good = jnp.isfinite(loss) & jnp.isfinite(norm)
    if config.spike_factor > 0:
        settled = guard.good >= config.warmup_steps
        good &= ~(settled & (norm > config.spike_factor * guard.norm_average))
    # The mean starts at the first norm instead of 0; a bad norm (perhaps NaN) must not enter it, not even times zero.
    decay = jnp.where(guard.good == 0, 0.0, config.decay)
    average = jnp.where(good, decay * guard.norm_average + (1 - decay) * norm, guard.norm_average)
    bad = (~good).astype(jnp.int32)
    return good, Guard(
        skipped=guard.skipped + bad,
        streak=jnp.where(good, 0, guard.streak + 1),
        norm_average=average,
        good=guard.good + 1 - bad,
    )


def make_train_step(
    loss_function: LossFunction,
    optimizer: optax.GradientTransformation,
    learning_rate: Callable[[jax.Array], jax.Array],
    guard: GuardConfig,
    gradient_shardings: Any = None,
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, Metrics]]:
    """Builds the step; wrap it in jax.jit with the state donated.

    Returns:
      A function of (state, batch [accumulation, batch, length]) giving (new state, metrics): loss, weights,
      gradient_norm (before clipping), learning_rate, skipped, streak, and the loss function's own.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, Metrics]:
        gradients, metrics = accumulate(loss_function, state.params, batch, gradient_shardings)
        norm = optax.global_norm(gradients)
        good, counters = update_guard(state.guard, guard, metrics["loss"], norm)
        updates, new_optimizer = optimizer.update(gradients, state.optimizer, state.params)
        new_params = optax.apply_updates(state.params, updates)

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(good, new, old)

        new_state = TrainState(
            step=state.step + 1,
            params=jax.tree.map(choose, new_params, state.params),
            optimizer=jax.tree.map(choose, new_optimizer, state.optimizer),
            guard=counters,
        )
        return new_state, {
            **metrics,
            "gradient_norm": norm,
            "learning_rate": jnp.asarray(learning_rate(state.step - state.guard.skipped), jnp.float32),
            "skipped": counters.skipped,
            "streak": counters.streak,
        }

    return train_step


def make_eval_step(
    loss_function: LossFunction,
) -> Callable[[Params, dict[str, jax.Array]], tuple[jax.Array, jax.Array]]:
    """Builds the evaluation step: (params, batch [accumulation, batch, length]) -> (loss sum, weight sum)."""

    def eval_step(params: Params, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        def one(carry: tuple, microbatch: dict[str, jax.Array]) -> tuple[tuple, None]:
            loss, weights, _ = loss_function(params, microbatch)
            return (carry[0] + loss, carry[1] + weights), None

        (loss, weights), _ = jax.lax.scan(one, (jnp.float32(0), jnp.float32(0)), batch)
        return loss, weights

    return eval_step
