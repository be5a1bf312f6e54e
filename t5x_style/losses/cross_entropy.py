"""The language-model loss as sums, so that accumulating microbatches of unequal weight is exact.

Divide once, at the end: loss = sum of weighted losses / sum of weights. Worked example, two microbatches with losses
[2, 4] of weights [1, 1] and [9] of weight [0.5]: (2 + 4 + 4.5) / 2.5 = 4.2; the mean of the two means is 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.losses.chunked import CHUNK_SIZE, summed_cross_entropy
from t5x_style.losses.forward import forward, input_fields, target_fields
from t5x_style.losses.loss import Batch, Loss, Now, Sums
from t5x_style.losses.routers import router_terms, router_weight


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy over the vocabulary, of any kind of model; routers of experts add a term of their own.

    Terms: "cross_entropy" (its weight: the sum of the loss weights), "router" (rows, see routers.py). Metrics: nll,
    z_loss, correct (the share of the weight whose target has the highest score), max_z_loss and the routers' where they
    are.

    Attributes:
      z_loss: weight of the squared log-sum-exp (PaLM, section 5: 1e-4); 0 switches it off.
      max_z_loss: weight of the squared highest score (Baichuan 2, section 2.5: 2e-4); 0 switches it off.
    """

    z_loss: float = 0.0
    max_z_loss: float = 0.0

    def __post_init__(self):
        for name in ("z_loss", "max_z_loss"):
            if getattr(self, name) < 0:
                raise UserError(f"CrossEntropy.{name} is {getattr(self, name)}, must not be negative")

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """Inputs, targets and loss weights of the policy's own side."""
        return input_fields(configs["policy"]) + target_fields(configs["policy"])

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The sum of the loss weights; of the router term the rows with tokens."""
        weights = jnp.sum(loss_weights(batch).astype(jnp.float32))
        return {"cross_entropy": weights, "router": router_weight(batch)}

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """See Loss."""
        del now
        model = models["policy"]
        passed = forward(model, batch)
        total, weights, sums = cross_entropy(
            model.head,
            passed.hidden,
            passed.targets,
            passed.weights,
            z_loss=self.z_loss,
            max_z_loss=self.max_z_loss,
            chunk_size=model.execution.loss_chunk,
        )
        metrics = {name: (value, weights) for name, value in sums.items()}
        router = router_terms(passed.router_losses, batch)
        return Sums({"cross_entropy": total, **router.losses}, {**metrics, **router.metrics})


def loss_weights(batch: Batch) -> jax.Array:
    """[B, L]: the decoder's, or those of an encoder alone."""
    return batch["decoder_loss_weights" if "decoder_loss_weights" in batch else "encoder_loss_weights"]


def cross_entropy(
    head: Any,
    hidden: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    z_loss: float = 0.0,
    max_z_loss: float = 0.0,
    chunk_size: int = CHUNK_SIZE,
) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
    """Weighted cross-entropy with z-loss and max-z loss.

    Args:
      head: a module with `logits`. hidden: [B, L, D]. targets: [B, L] ids. weights: [B, L], 0 on padding.
      z_loss: coefficient of log_normalizer ** 2. max_z_loss: of the highest score ** 2.
      chunk_size: tokens a device scores at once.

    Returns:
      (sum of weighted loss, sum of weights, sums {"nll", "z_loss", "correct"}, and "max_z_loss" where it is used, to be
      divided by the sum of weights).
    """
    coefficients = {"z_loss": z_loss, "max_z_loss": max_z_loss}
    total = summed_cross_entropy(head, hidden, targets, weights, **coefficients, chunk_size=chunk_size)
    metrics = {"nll": total.nll, "z_loss": total.z_loss, "correct": total.correct}
    if max_z_loss:
        metrics["max_z_loss"] = total.max_z_loss
    return total.loss, jnp.sum(weights.astype(jnp.float32)), metrics
