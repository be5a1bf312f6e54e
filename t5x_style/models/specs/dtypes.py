"""Which number format each part of a model uses."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from t5x_style.models.specs.checks import choice

DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class DtypePolicy:
    """Which number format each part of a model uses.

    Attributes:
      params: stored parameters. compute: inputs and outputs of matrices. softmax: attention weights before
      the value product. logits: vocabulary scores and everything of the loss. reductions: norm statistics.
    """

    params: str = "float32"
    compute: str = "float32"
    softmax: str = "float32"
    logits: str = "float32"
    reductions: str = "float32"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            choice(getattr(self, field.name), DTYPES, f"DtypePolicy.{field.name}")

    def dtype(self, part: str) -> jnp.dtype:
        """The dtype of one part, such as `policy.dtype("compute")`."""
        return jnp.dtype(getattr(self, part))


FLOAT32 = DtypePolicy()
