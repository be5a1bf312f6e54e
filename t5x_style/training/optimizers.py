"""Optimizers: frozen dataclasses that gin fills and `build` turns into optax transformations.

Weight decay reaches matrices only. "Matrix" is judged by a parameter's logical axes without `layers`: a norm scale
is stored as [layers, embed] once layers are stacked, which a rule on the rank of the array would decay.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax

from t5x_style.errors import UserError
from t5x_style.training.schedules import Schedule


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The base of all optimizers; one of your own is a frozen dataclass with `build`.

    Attributes:
      schedule: learning rate by step, which the metrics report.
    """

    schedule: Schedule

    def build(self, axes: Any) -> optax.GradientTransformation:
        """The optax transformation of float32 arrays with the logical axes `axes` (name -> tuple of names)."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW (Loshchilov and Hutter 2019); defaults of LLaMA, section 2.3.

    Attributes:
      schedule: learning rate by step. beta1, beta2, epsilon: moments.
      weight_decay: per unit of learning rate, on matrices only.
      clip_norm: global gradient norm is clipped to it; None switches clipping off.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float | None = 1.0

    def __post_init__(self):
        _check(self)

    def build(self, axes: Any) -> optax.GradientTransformation:
        """The optax transformation for parameters with the logical axes `axes` (a tree of tuples)."""
        return optax.chain(
            _clip(self.clip_norm),
            optax.scale_by_adam(b1=self.beta1, b2=self.beta2, eps=self.epsilon),
            optax.add_decayed_weights(self.weight_decay, mask=matrices(axes)),
            optax.scale_by_learning_rate(self.schedule),
        )


@dataclasses.dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2): sign of an interpolated momentum, one moment only."""

    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 1.0
    clip_norm: float | None = 1.0

    def __post_init__(self):
        _check(self)

    def build(self, axes: Any) -> optax.GradientTransformation:
        """The optax transformation for parameters with the logical axes `axes` (a tree of tuples)."""
        return optax.chain(
            _clip(self.clip_norm),
            optax.scale_by_lion(b1=self.beta1, b2=self.beta2),
            optax.add_decayed_weights(self.weight_decay, mask=matrices(axes)),
            optax.scale_by_learning_rate(self.schedule),
        )


def _check(optimizer: AdamW | Lion) -> None:
    name = type(optimizer).__name__
    for field in ("beta1", "beta2"):
        if not 0 <= getattr(optimizer, field) < 1:
            raise UserError(f"{name}.{field} is {getattr(optimizer, field)}, must lie in [0, 1)")
    if optimizer.clip_norm is not None and optimizer.clip_norm <= 0:
        raise UserError(f"{name}.clip_norm is {optimizer.clip_norm}, must be positive, or None for no clipping")
    if optimizer.weight_decay < 0:
        raise UserError(f"{name}.weight_decay is {optimizer.weight_decay}, must not be negative")


def _clip(norm: float | None) -> optax.GradientTransformation:
    return optax.identity() if norm is None else optax.clip_by_global_norm(norm)


def matrices(axes: Any) -> Any:
    """A tree of bools: does the parameter have two or more dimensions besides `layers`?

    Example: ("embed", "mlp") True; ("layers", "embed", "mlp") True; ("layers", "embed") False; ("embed",) False.
    """
    return jax.tree.map(
        lambda names: len([name for name in names if name != "layers"]) >= 2,
        axes,
        is_leaf=lambda x: isinstance(x, tuple),
    )
