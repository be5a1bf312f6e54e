"""The step's protection against bad updates: one that is not finite, or a spike, is left out and counted."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError


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

    def __post_init__(self):
        for name, fits in (
            ("spike_factor", self.spike_factor >= 0),
            ("warmup_steps", self.warmup_steps >= 0),
            ("decay", 0 <= self.decay < 1),
            ("patience", self.patience >= 1),
        ):
            if not fits:
                raise UserError(f"GuardConfig.{name} is {getattr(self, name)}, which is out of its range")


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Guard:
    """The counters.

    Attributes:
      skipped: int32 [], updates left out so far. streak: int32 [], of these the latest in a row.
      norm_average: float32 [], running mean of the gradient norms of good steps.
      good: int32 [], steps that went into `norm_average`.
    """

    skipped: jax.Array
    streak: jax.Array
    norm_average: jax.Array
    good: jax.Array

    @classmethod
    def fresh(cls) -> Guard:
        """All counters at zero."""
        return cls(jnp.int32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))


def update_guard(
    guard: Guard, config: GuardConfig, loss: jax.Array, norm: jax.Array, scaled: bool = False
) -> tuple[jax.Array, Guard]:
    """Decides inside the step whether its update counts.

    Args:
      scaled: the loss is scaled, so that an update that is not finite only asks for a smaller scale: it is left out and
        counted, but is no strike in `streak`.

    Returns:
      (bool [], the counters after this step).
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    good = finite
    if config.spike_factor > 0:
        settled = guard.good >= config.warmup_steps
        good &= ~(settled & (norm > config.spike_factor * guard.norm_average))
    # The mean starts at the first norm instead of 0; a bad norm (perhaps NaN) must not enter it, not even times zero.
    decay = jnp.where(guard.good == 0, 0.0, config.decay)
    average = jnp.where(good, decay * guard.norm_average + (1 - decay) * norm, guard.norm_average)
    bad = (~good).astype(jnp.int32)
    strike = guard.streak + 1
    if scaled:
        strike = jnp.where(finite, strike, guard.streak)
    return good, Guard(
        skipped=guard.skipped + bad,
        streak=jnp.where(good, 0, strike),
        norm_average=average,
        good=guard.good + 1 - bad,
    )
