"""The language-model loss as sums, so that accumulating microbatches of unequal weight is exact.

Divide once, at the end: loss = sum of weighted losses / sum of weights. Worked example, two microbatches with losses
[2, 4] of weights [1, 1] and [9] of weight [0.5]: (2 + 4 + 4.5) / 2.5 = 4.2; the mean of the two means is 6.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.losses.chunked import CHUNK_SIZE, summed_cross_entropy


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
