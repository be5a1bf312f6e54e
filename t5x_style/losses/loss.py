"""What a loss is: a gin-built object that says which models and fields it needs, and gives sums for one microbatch.

The training step divides: every named term by its own weight over all microbatches, so that neither accumulation nor
devices change anything but rounding. Worked example, two terms over two microbatches:

    microbatch  losses                  weights                   the step minimises
    1           {"mlm": 6, "nsp": 2}    {"mlm": 3, "nsp": 2}      (6 + 10) / (3 + 1) + (2 + 1) / (2 + 2)
    2           {"mlm": 10, "nsp": 1}   {"mlm": 1, "nsp": 2}      = 4 + 0.75

To add one: a frozen dataclass in a file of its own, see docs/training.md, "A loss of your own".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from t5x_style.models.specs import DtypePolicy

Batch = Mapping[str, jax.Array]  # the fields of one microbatch, each [rows, length of its side, ...]


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """Where a model of a loss comes from, besides the one that the run trains ("policy").

    Attributes:
      folder: a MODEL_DIR or a Hugging Face folder. None: where the policy starts (its `init_from`, or its seed); arrays
        that the policy does not train are shared with it, not copied.
      model: its architecture; None: the folder's, or the policy's where there is no folder.
      trainable: patterns of the parameters that train, as TrainRun.trainable has them; () freezes all.
      policy: number formats; None: the run's.
    """

    folder: str | None = None
    model: Any = None
    trainable: tuple[str, ...] = ()
    policy: DtypePolicy | None = None


class Now(NamedTuple):
    """What a loss may know of the moment.

    Attributes:
      step: int32 [], optimizer steps done before this one.
      keys: [rows] random keys, one a row of the microbatch, equal however the batch is split; None in evaluation, where
        nothing is random.
      extra: the values of TrainRun.extras by name, such as an adaptive coefficient.
    """

    step: jax.Array
    keys: jax.Array | None = None
    extra: Mapping[str, Any] = {}


class Sums(NamedTuple):
    """What a loss gives for one microbatch.

    Attributes:
      losses: name of a term -> its sum, coefficient included, to be divided by `Loss.weights` of that name.
      metrics: name -> (sum, weight), for reports and for TrainRun.extras; scalars are logged. "nll" also gives the
        perplexity.
    """

    losses: dict[str, jax.Array]
    metrics: dict[str, tuple[jax.Array, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Loss:
    """The base of all losses; frozen and without I/O, so that gin can build it before anything else."""

    def models(self) -> Mapping[str, ModelSource]:
        """The models it needs besides "policy", by the names that `__call__` gets them by."""
        return {}

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields of a batch that it reads; only these go to the devices.

        Args:
          configs: the architectures of all models by name, "policy" included.

        Raises:
          UserError: it cannot train such a model.
        """
        raise NotImplementedError

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """Per term the weight that one microbatch has, a scalar; from the batch alone, no model in sight.

        It may name terms that `__call__` leaves out.
        """
        raise NotImplementedError

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """The sums of one microbatch; differentiated in what trains.

        Args:
          models: the modules by name, "policy" and those of `models()`.
        """
        raise NotImplementedError
