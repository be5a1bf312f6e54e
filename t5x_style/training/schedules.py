"""Learning-rate schedules: frozen dataclasses, called with the step (an int or a traced array) inside the step.

Every schedule warms up linearly from 0 over `warmup_steps`, reaching `peak` exactly at that step.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.typing import ArrayLike

from t5x_style.errors import UserError


def _check(peak: float, warmup_steps: int) -> None:
    if peak < 0 or warmup_steps < 0:
        raise UserError(f"learning-rate schedule: peak {peak} and warmup_steps {warmup_steps} must not be negative")


def _warm(step: ArrayLike, warmup_steps: int) -> jnp.ndarray:
    """min(1, step / warmup_steps), 1 where there is no warm-up."""
    return jnp.minimum(1.0, jnp.asarray(step, jnp.float32) / max(1, warmup_steps)) if warmup_steps else jnp.float32(1)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The base of all schedules; one of your own is a frozen dataclass with `__call__`."""

    def __call__(self, step: ArrayLike) -> jnp.ndarray:
        """The learning rate at `step`, float32."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """`peak` after the warm-up (T0, T5 fine-tuning: 1e-3 without warm-up)."""

    peak: float
    warmup_steps: int = 0

    def __post_init__(self):
        _check(self.peak, self.warmup_steps)

    def __call__(self, step: ArrayLike) -> jnp.ndarray:
        return self.peak * _warm(step, self.warmup_steps)


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from `peak` to `final_fraction * peak` at `steps` (LLaMA, section 2.3: to 10%)."""

    peak: float
    steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.1

    def __post_init__(self):
        _check(self.peak, self.warmup_steps)
        if self.steps <= self.warmup_steps:
            raise UserError(
                f"Cosine: steps {self.steps} must be more than warmup_steps {self.warmup_steps}; "
                "change one of them (the macros STEPS and WARMUP_STEPS)"
            )

    def __call__(self, step: ArrayLike) -> jnp.ndarray:
        progress = (jnp.asarray(step, jnp.float32) - self.warmup_steps) / (self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(progress, 0, 1)))
        decay = self.final_fraction + (1 - self.final_fraction) * cosine
        return self.peak * _warm(step, self.warmup_steps) * decay


@dataclasses.dataclass(frozen=True)
class Linear(Schedule):
    """A straight line from `peak` to `final_fraction * peak` at `steps`."""

    peak: float
    steps: int
    warmup_steps: int = 0
    final_fraction: float = 0.0

    def __post_init__(self):
        _check(self.peak, self.warmup_steps)
        if self.steps <= self.warmup_steps:
            raise UserError(
                f"Linear: steps {self.steps} must be more than warmup_steps {self.warmup_steps}; "
                "change one of them (the macros STEPS and WARMUP_STEPS)"
            )

    def __call__(self, step: ArrayLike) -> jnp.ndarray:
        progress = (jnp.asarray(step, jnp.float32) - self.warmup_steps) / (self.steps - self.warmup_steps)
        decay = 1 - (1 - self.final_fraction) * jnp.clip(progress, 0, 1)
        return self.peak * _warm(step, self.warmup_steps) * decay


@dataclasses.dataclass(frozen=True)
class InverseSqrt(Schedule):
    """peak * sqrt(warmup_steps / step) after the warm-up (Vaswani et al. 2017, section 5.3; T5: 10,000 steps)."""

    peak: float
    warmup_steps: int = 10_000

    def __post_init__(self):
        _check(self.peak, self.warmup_steps)
        if not self.warmup_steps:
            raise UserError("InverseSqrt: warmup_steps must be positive, it sets the scale of the decay")

    def __call__(self, step: ArrayLike) -> jnp.ndarray:
        late = jnp.maximum(jnp.asarray(step, jnp.float32), self.warmup_steps)
        return self.peak * _warm(step, self.warmup_steps) * jnp.sqrt(self.warmup_steps / late)
