"""Cross entropy whose target is not certain: a share lies evenly on the vocabulary (Szegedy et al. 2016, section 7).

Worked example, vocabulary of 4 ids padded to 8, smoothing .1, target 2: the target distribution is
[.025, .025, .925, .025, 0, 0, 0, 0], as torch.nn.CrossEntropyLoss(label_smoothing=.1) has it over 4 classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.losses.chunked_function import TokenFunction, chunked_sum
from t5x_style.losses.cross_entropy import loss_weights
from t5x_style.losses.forward import forward, input_fields, target_fields
from t5x_style.losses.loss import Batch, Loss, Now, Sums
from t5x_style.losses.routers import router_terms, router_weight


@dataclasses.dataclass(frozen=True)
class LabelSmoothing(Loss):
    """Cross entropy of smoothed targets; one term, "cross_entropy", and "router" of experts. Padded ids take no part.

    Attributes:
      smoothing: share of the target distribution that is even over the vocabulary, in [0, 1).
    """

    smoothing: float = 0.1

    def __post_init__(self):
        if not 0 <= self.smoothing < 1:
            raise UserError(f"LabelSmoothing.smoothing is {self.smoothing}; give a share from 0 to below 1")

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """Inputs, targets and weights of the policy."""
        return input_fields(configs["policy"]) + target_fields(configs["policy"])

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The sum of the loss weights; of the router term the rows with tokens."""
        weight = jnp.sum(loss_weights(batch).astype(jnp.float32))
        return {"cross_entropy": weight, "router": router_weight(batch)}

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """Terms {"cross_entropy"}, metrics "nll", "correct" and the routers'."""
        del now
        policy = models["policy"]
        passed, head = forward(policy, batch), policy.head
        f = smoothed(head.vocab_size, self.smoothing)
        w_BL = passed.weights.astype(jnp.float32)
        size = policy.execution.loss_chunk
        loss, (nll, correct) = chunked_sum(f, (head,), (passed.hidden,), w_BL, (passed.targets,), chunk_size=size)
        weight = jnp.sum(w_BL)
        router = router_terms(passed.router_losses, batch)
        metrics = {"nll": (nll, weight), "correct": (correct, weight), **router.metrics}
        return Sums({"cross_entropy": loss, **router.losses}, metrics)


def smoothed(vocab_size: int, smoothing: float) -> TokenFunction:
    """For `chunked_sum`, of scores and targets [C]: (smoothed loss, (-log p(target), whether it is the best)).

    The loss is (1 - smoothing) * -log p(target) + smoothing * mean over the vocabulary of -log p.
    """

    def f(scores: tuple[jax.Array], frozen_scores: tuple[()], targets_C: jax.Array) -> tuple[jax.Array, Any]:
        del frozen_scores
        scores_CV = scores[0].astype(jnp.float32)
        ids_V = jnp.arange(scores_CV.shape[-1])
        log_z_C = jax.nn.logsumexp(scores_CV, axis=-1)
        target_C = jnp.sum(jnp.where(targets_C[:, None] == ids_V, scores_CV, 0), axis=-1)
        mean_C = jnp.sum(jnp.where(ids_V < vocab_size, scores_CV, 0), axis=-1) / vocab_size
        loss_C = log_z_C - (1 - smoothing) * target_C - smoothing * mean_C
        best_C = jax.lax.stop_gradient(target_C >= jnp.max(scores_CV, axis=-1))
        return loss_C, (log_z_C - target_C, best_C.astype(jnp.float32))

    return f
