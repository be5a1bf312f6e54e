"""TrainRun: everything a training run is, in one frozen dataclass that gin fills (see gin/runs)."""

from __future__ import annotations

import dataclasses

from t5x_style.data.data_config import DataConfig
from t5x_style.errors import UserError
from t5x_style.losses.forward import check_fields
from t5x_style.mesh import MeshConfig
from t5x_style.models.specs import DecoderConfig, DtypePolicy, EncoderConfig, EncoderDecoderConfig, Execution
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.training.optimizers import AdamW, Lion
from t5x_style.training.step import GuardConfig


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The loss on held-out data during training (task metrics are `t5x_style.evaluate`'s).

    Attributes:
      data: what to read; a finite pass, in order.
      every: optimizer steps between evaluations; also made after the last step.
      batches: at most so many batches a time; None reads all.
    """

    data: DataConfig
    every: int
    batches: int | None = None

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
      model: the architecture; what it reads must be what the objective makes (forward.py). policy: number formats.
      data: the training data. tokenizer: SentencePiece model file, copied into model_dir.
      optimizer: AdamW or Lion, with its schedule.
      steps: optimizer steps of the whole run.
      evaluation: held-out loss during training, or None.
      mesh: devices by axis, and the sharding tables.
      init_from: a MODEL_DIR or Hugging Face folder whose parameters the run starts from (instruction tuning), or None
        for random ones.
      seed: of initialisation; the data has its own.
      z_loss: weight of the squared log-sum-exp (PaLM, section 5: 1e-4); 0 switches it off.
      max_z_loss: weight of the squared highest score (Baichuan 2, section 2.5: 2e-4); 0 switches it off.
      execution: how the model runs: scan, recomputation, attention, loss chunk; a resumed run may have another.
      guard: protection against bad updates.
      log_every, checkpoint_every: in steps; a checkpoint is also made at the end and on an interrupt.
      keep_checkpoints: the newest that are kept.
      tensorboard: also write TensorBoard events.
      profile_steps: (first, last) step to trace into model_dir/profile, or None.
    """

    model_dir: str
    model: DecoderConfig | EncoderConfig | EncoderDecoderConfig | RecurrentConfig
    data: DataConfig
    tokenizer: str
    optimizer: AdamW | Lion
    steps: int
    policy: DtypePolicy = DtypePolicy()
    evaluation: Evaluation | None = None
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    init_from: str | None = None
    seed: int = 0
    z_loss: float = 0.0
    max_z_loss: float = 0.0
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
        for name in ("z_loss", "max_z_loss"):
            if getattr(self, name) < 0:
                raise UserError(f"TrainRun.{name} is {getattr(self, name)}, must not be negative")
        check_fields(self.model, self.data.objective)


def _positive(config: object, name: str) -> None:
    value = getattr(config, name)
    if isinstance(value, (int, float)) and value < 1:
        raise UserError(f"{type(config).__name__}.{name} is {value}, must be at least 1")
