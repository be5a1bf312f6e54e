"""Distillation: a student learns the distribution of a frozen teacher (Hinton et al. 2015, "Distilling the knowledge").

Teacher and student may differ in width and depth; they share the vocabulary. Worked example, one token, T = 2, V = 2:

    teacher scores [2, 0] / T -> p = softmax([1, 0]) = [.731, .269]
    student scores [0, 0] / T -> q = [.5, .5]
    forward_kl = sum p (log p - log q) = .1109, times T ** 2 = .4438
    gradient of that to the student's scores = T (q - p) = [-.462, .462]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.losses.chunked_function import TokenFunction, chunked
from t5x_style.losses.cross_entropy import loss_weights
from t5x_style.losses.forward import forward, input_fields, target_fields
from t5x_style.losses.frozen import check_frozen, check_same_task, frozen, frozen_hidden
from t5x_style.losses.loss import Batch, Loss, ModelSource, Now, Sums
from t5x_style.losses.routers import router_terms, router_weight

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclasses.dataclass(frozen=True)
class Distillation(Loss):
    """(1 - alpha) * T ** 2 * divergence at temperature T + alpha * cross entropy of the targets at temperature 1.

    Two terms, "distillation" and "cross_entropy", both over the loss weights (and "router" of experts). Padded ids
    take no part.

    Attributes:
      teacher: the model to learn from.
      temperature: T, divides both models' scores. T ** 2 keeps the gradient's size (Hinton et al. 2015, section 2).
      alpha: weight of the cross entropy, in [0, 1).
      kind: "forward_kl" is KL(teacher || student), "reverse_kl" KL(student || teacher) (Gu et al. 2024, MiniLLM), "jsd"
        the generalised Jensen-Shannon divergence (Agarwal et al. 2024, GKD, section 2).
      mixture: for "jsd": m = mixture * teacher + (1 - mixture) * student, and
        mixture * KL(teacher || m) + (1 - mixture) * KL(student || m).
    """

    teacher: ModelSource
    temperature: float = 2.0
    alpha: float = 0.5
    kind: Divergence = "forward_kl"
    mixture: float = 0.5

    def __post_init__(self):
        check_frozen("Distillation.teacher", self.teacher)
        if self.temperature <= 0:
            raise UserError(f"Distillation.temperature is {self.temperature}; give a number above 0")
        if not 0 <= self.alpha < 1:
            raise UserError(f"Distillation.alpha is {self.alpha}; give a share from 0 to below 1")
        if self.kind not in get_args(Divergence):
            raise UserError(f"Distillation.kind is {self.kind!r}; choose one of {', '.join(get_args(Divergence))}")
        if not 0 < self.mixture < 1:
            raise UserError(f"Distillation.mixture is {self.mixture}; give a share between 0 and 1")

    def models(self) -> Mapping[str, ModelSource]:
        """The teacher."""
        return {"teacher": self.teacher}

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """What both models read, targets and weights of the policy.

        Raises:
          UserError: the two differ in their vocabulary or in the fields they read.
        """
        policy = configs["policy"]
        check_same_task("Distillation", "teacher", configs["teacher"], policy)
        return input_fields(policy) + target_fields(policy)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The sum of the loss weights; of the router term the rows with tokens."""
        weight = jnp.sum(loss_weights(batch).astype(jnp.float32))
        return {"distillation": weight, "cross_entropy": weight, "router": router_weight(batch)}

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """Terms {"distillation", "cross_entropy"}; metrics "nll", "correct", "divergence" (no factors), routers'."""
        del now
        policy, teacher = models["policy"], frozen(models["teacher"])
        passed = forward(policy, batch)
        divergence_BL, nll_BL, correct_BL = chunked(
            divergence(policy.head.vocab_size, self.kind, self.temperature, self.mixture),
            (policy.head,),
            (passed.hidden,),
            (passed.targets,),
            frozen_heads=(teacher.head,),
            frozen_hiddens=(frozen_hidden(teacher, batch),),
            chunk_size=policy.execution.loss_chunk,
        )
        w_BL = passed.weights.astype(jnp.float32)
        weight = jnp.sum(w_BL)
        apart, nll, correct = (jnp.sum(w_BL * value) for value in (divergence_BL, nll_BL, correct_BL))
        router = router_terms(passed.router_losses, batch)
        losses = {"distillation": (1 - self.alpha) * self.temperature**2 * apart, "cross_entropy": self.alpha * nll}
        metrics = {"nll": (nll, weight), "correct": (correct, weight), "divergence": (apart, weight)}
        return Sums({**losses, **router.losses}, {**metrics, **router.metrics})


def divergence(vocab_size: int, kind: Divergence, temperature: float, mixture: float = 0.5) -> TokenFunction:
    """A function for `chunked` of student and teacher scores and targets [C].

    Returns:
      f giving (divergence at the temperature, -log p(target) of the student, whether the target is its best), [C] each.
    """

    def f(scores: tuple[jax.Array], frozen_scores: tuple[jax.Array], targets_C: jax.Array) -> tuple[jax.Array, ...]:
        # tables may be padded to different sizes: what both have is at least the vocabulary
        size = min(scores[0].shape[-1], frozen_scores[0].shape[-1])
        student_CV, teacher_CV = (each[0][..., :size].astype(jnp.float32) for each in (scores, frozen_scores))
        ids_V = jnp.arange(size)
        log_q_CV = jax.nn.log_softmax(student_CV / temperature, axis=-1)
        log_p_CV = jax.nn.log_softmax(teacher_CV / temperature, axis=-1)
        log_z_C = jax.nn.logsumexp(student_CV, axis=-1)
        target_C = jnp.sum(jnp.where(targets_C[:, None] == ids_V, student_CV, 0), axis=-1)
        best_C = jax.lax.stop_gradient(target_C >= jnp.max(student_CV, axis=-1))
        apart_C = _apart(log_p_CV, log_q_CV, ids_V < vocab_size, kind, mixture)
        return apart_C, log_z_C - target_C, best_C.astype(jnp.float32)

    return f


def _apart(log_p_CV: jax.Array, log_q_CV: jax.Array, real_V: jax.Array, kind: Divergence, mixture: float) -> jax.Array:
    def kl(log_a_CV: jax.Array, log_b_CV: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(real_V, jnp.exp(log_a_CV) * (log_a_CV - log_b_CV), 0), axis=-1)

    if kind == "forward_kl":
        return kl(log_p_CV, log_q_CV)
    if kind == "reverse_kl":
        return kl(log_q_CV, log_p_CV)
    log_m_CV = jnp.logaddexp(log_p_CV + jnp.log(mixture), log_q_CV + jnp.log1p(-mixture))
    return mixture * kl(log_p_CV, log_m_CV) + (1 - mixture) * kl(log_q_CV, log_m_CV)
