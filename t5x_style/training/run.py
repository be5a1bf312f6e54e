"""TrainRun: everything a training run is, in one frozen dataclass that gin fills (see gin/runs)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from t5x_style.data.data_config import DataConfig
from t5x_style.errors import UserError
from t5x_style.losses.cross_entropy import CrossEntropy
from t5x_style.losses.loss import Loss
from t5x_style.mesh import MeshConfig
from t5x_style.models.specs import DecoderConfig, DtypePolicy, EncoderConfig, EncoderDecoderConfig, Execution
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.peft.adapters import Adapters
from t5x_style.training.extras import Extra
from t5x_style.training.fields import check_fields
from t5x_style.training.guard import GuardConfig
from t5x_style.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The run's own loss on held-out data during training (task metrics are `t5x_style.evaluate`'s).

    Attributes:
      data: what to read; a finite pass, in order. Its batch_size is its own, not the training data's.
      every: optimizer steps between evaluations; also made after the last step.
      batches: at most so many batches a time; None reads all.
      average: the name of one of TrainRun.extras that keeps an average of what trains ("ema"): that is evaluated.
    """

    data: DataConfig
    every: int
    batches: int | None = None
    average: str | None = None

    def __post_init__(self):
        _positive(self, "every")
        if self.data.repeat or self.data.shuffle:
            raise UserError("Evaluation.data must have repeat = False and shuffle = False, to read every example once")
        if self.batches is not None:
            _positive(self, "batches")


@dataclasses.dataclass(frozen=True)
class TrainRun:
    """One training run.

    Attributes:
      model_dir: where everything of the run goes; the same folder continues an interrupted run.
      data: the training data.
      tokenizer: a SentencePiece model, a tokenizer.json, or a folder (Hugging Face, MODEL_DIR/tokenizer); its files are
        copied into model_dir. None: the one that the token cache was made with, which the cache holds.
      optimizer: AdamW or Lion, with its schedule. steps: optimizer steps of the whole run.
      model: the architecture; None: that of `init_from`. What the loss reads must be what the objective makes.
      policy: number formats.
      loss: what is minimised, and which models that takes (losses/loss.py).
      init_from: a MODEL_DIR or Hugging Face folder whose parameters the run starts from, or a mapping from path prefix
        to folder; what it does not hold (a new head, adapters) is drawn. None draws all.
      trainable: patterns of the parameters that train, the last that matches decides: ("*", "!trunk/*"). The names are
        paths such as trunk/segments/0/layers/0/mlp/up/kernel. None: all, or those of the adapters where there are some.
      adapters: attached to the model after it is built, such as LoRA; None: none.
      extras: values with their own update rule, by the name that a loss reads them by: {"ema": Ema()}.
      evaluation: the loss on held-out data during training, or None.
      mesh: devices by axis, and the sharding tables.
      seed: of initialisation and dropout; the data has its own.
      execution: how the model runs: scan, recomputation, attention, loss chunk; a resumed run may have another.
      guard: protection against bad updates.
      log_every, checkpoint_every: in steps; a checkpoint is also made at the end and on an interrupt.
      keep_checkpoints: the newest that are kept.
      tensorboard: also write TensorBoard events.
      profile_steps: (first, last) step to trace into model_dir/profile, or None.
    """

    model_dir: str
    data: DataConfig
    optimizer: Optimizer
    steps: int
    tokenizer: str | None = None
    model: DecoderConfig | EncoderConfig | EncoderDecoderConfig | RecurrentConfig | None = None
    policy: DtypePolicy = DtypePolicy()
    loss: Loss = CrossEntropy()
    init_from: str | Mapping[str, str] | None = None
    trainable: tuple[str, ...] | None = None
    adapters: Adapters | None = None
    extras: Mapping[str, Extra] = dataclasses.field(default_factory=dict)
    evaluation: Evaluation | None = None
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    seed: int = 0
    execution: Execution = Execution()
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
    log_every: int = 10
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    tensorboard: bool = True
    profile_steps: tuple[int, int] | None = None

    def __post_init__(self):
        for name in ("steps", "log_every", "checkpoint_every", "keep_checkpoints"):
            _positive(self, name)
        if not self.model_dir:
            raise UserError("MODEL_DIR is empty; pass --gin.MODEL_DIR=\"'path'\"")
        if self.model is None and not isinstance(self.init_from, str):
            raise UserError("TrainRun.model is not set; include a file of gin/models, or give a folder as init_from")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"TrainRun.seed is {self.seed}, must lie in [0, 2**32)")
        if self.profile_steps is not None and not 1 <= self.profile_steps[0] <= self.profile_steps[1]:
            raise UserError(f"TrainRun.profile_steps is {self.profile_steps}; give (first, last), first not after last")
        if self.policy.compute == "float16":
            raise UserError(
                "TrainRun.policy: compute in float16 needs its gradients scaled, which is not supported; use bfloat16"
            )
        for name in self.extras:
            if not name.isidentifier():
                raise UserError(f"TrainRun.extras: {name!r} must be an identifier such as ema")
        average = self.evaluation.average if self.evaluation else None
        if average is not None and average not in self.extras:
            raise UserError(f"Evaluation.average is {average!r}, which TrainRun.extras does not have")
        if self.model is not None:
            check_fields(self.loss, {"policy": self.model}, self.data.first_objective)

    @property
    def trained(self) -> tuple[str, ...]:
        """The patterns of what trains in the policy."""
        if self.trainable is not None:
            return tuple(self.trainable)
        return ("*",) if self.adapters is None else self.adapters.trainable


def _positive(config: object, name: str) -> None:
    value = getattr(config, name)
    if isinstance(value, (int, float)) and value < 1:
        raise UserError(f"{type(config).__name__}.{name} is {value}, must be at least 1")
