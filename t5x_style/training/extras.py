"""Values that a run keeps beside its parameters, with their own update rule: averages, scales, adaptive coefficients.

`TrainRun.extras = {"ema": @Ema()}`; a loss reads them as `now.extra[NAME]`. They are updated inside the training step,
after the optimizer, and saved with every checkpoint; one that a checkpoint lacks starts from the restored parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError

Trainable = dict[str, jax.Array]  # flat names, "policy/trunk/..."
Sums = Mapping[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Extra:
    """The base; frozen, so that gin can build it before anything else.

    Attributes (of the class):
      on_bad_steps: also updated where the optimizer's update is left out (a loss scale must fall then).
    """

    on_bad_steps = False

    def init(self, trainable: Trainable) -> Any:
        """The value at the start: a tree of arrays. An array named and shaped like a parameter is split like it."""
        raise NotImplementedError

    def update(self, value: Any, trainable: Trainable, metrics: Sums, applied: jax.Array) -> Any:
        """The value after a step, a tree like `value`.

        Args:
          trainable: the parameters after the step. applied: bool [], whether the optimizer's update counted.
          metrics: (sum, weight) of the loss's metrics over all microbatches and devices, vectors too, and "loss" and
            "gradient_norm" with weight 1.
        """
        raise NotImplementedError

    def loss_scale(self, value: Any) -> jax.Array | None:
        """What the loss is multiplied by before the backward pass and the gradients are divided by; None: nothing."""
        del value
        return None


@dataclasses.dataclass(frozen=True)
class Ema(Extra):
    """An exponential moving average of what trains, float32 (Polyak and Juditsky 1992; Karras et al. 2023, section 3).

    `Evaluation.average = "ema"` evaluates it, `load_model(path, average="ema")` opens it.

    Attributes:
      decay: average = decay * average + (1 - decay) * parameters.
      warmup: the decay of step n is at most (1 + n) / (10 + n), so that the start is forgotten (TensorFlow's
        ExponentialMovingAverage with num_updates).
    """

    decay: float = 0.999
    warmup: bool = True

    def __post_init__(self):
        if not 0 <= self.decay < 1:
            raise UserError(f"Ema.decay is {self.decay}, must lie in [0, 1)")

    def init(self, trainable: Trainable) -> Any:
        """Copies of the parameters."""
        average = {name: jnp.array(array, jnp.float32, copy=True) for name, array in trainable.items()}
        return {"average": average, "updates": jnp.int32(0)}

    def update(self, value: Any, trainable: Trainable, metrics: Sums, applied: jax.Array) -> Any:
        """See Extra."""
        del metrics, applied
        updates = value["updates"] + 1
        decay = jnp.float32(self.decay)
        if self.warmup:
            decay = jnp.minimum(decay, (1 + updates) / (10 + updates))

        def moved(average: jax.Array, array: jax.Array) -> jax.Array:
            return average + (1 - decay) * (array.astype(jnp.float32) - average)

        return {"average": jax.tree.map(moved, value["average"], trainable), "updates": updates}
