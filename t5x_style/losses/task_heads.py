"""The losses of task heads over one trunk: classes, numbers, choices, answer spans, tags; a language model beside them.

A head NAME reads two fields of the side that the heads see ("encoder" of an encoder, else "decoder"):

    {side}_NAME_labels    what is right
    {side}_NAME_weights   how much it counts; 0: the segment (for tags: the token) is not this head's

Both are facts about a segment, so constant over its tokens (those at its first token count), but for tags, which are
one a token. Two segments in a row of 7, the first for the head "topic", the second for "names", tags of 3 labels:

    encoder_segment_ids   [1, 1, 1, 2, 2, 2, 0]
    encoder_topic_labels  [4, 4, 4, 0, 0, 0, 0]    encoder_topic_weights  [1, 1, 1, 0, 0, 0, 0]    weight of the term: 1
    encoder_names_labels  [0, 0, 0, 0, 2, 1, 0]    encoder_names_weights  [0, 0, 0, 0, 1, 1, 0]    weight of the term: 2

Each head is a term of its own, divided by its own weight: where rows of many tasks are mixed (Liu et al. 2019, MT-DNN,
algorithm 1; rates in data/rates.py), each task counts by its coefficient, however many of its segments a step holds.
The formulas of each kind are in task_scores.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.losses.chunked import summed_cross_entropy
from t5x_style.losses.cross_entropy import loss_weights
from t5x_style.losses.forward import hidden_states, input_fields, side_of, target_fields
from t5x_style.losses.frozen import transformer
from t5x_style.losses.loss import Batch, Loss, Now, Sums
from t5x_style.losses.routers import router_terms, router_weight
from t5x_style.losses.task_scores import Facts, Scored, score, units
from t5x_style.models.specs import TaskHeadSpec
from t5x_style.models.specs.head_specs import TaskKind

LANGUAGE_MODEL, ROUTER = "language_model", "router"


@dataclasses.dataclass(frozen=True)
class TaskHeads(Loss):
    """A term a head, named by it; and "language_model" where its coefficient is not 0.

    Attributes:
      kinds: head -> its kind, as the model's `tasks` have them; heads of the model that are left out do not train.
      segments: most segments of a row; what stands behind them is left out, and reported as "segments_left_out".
      coefficients: head -> factor of its term; 1 where it is not given.
      language_model: factor of the cross entropy of the target tokens (Radford et al. 2018, GPT: .5; BERT's masked
        tokens beside next_sentence: 1); 0 leaves it out, and the vocabulary head untouched.
    """

    kinds: Mapping[str, TaskKind]
    segments: int = 1
    coefficients: Mapping[str, float] = dataclasses.field(default_factory=dict)
    language_model: float = 0.0

    def __post_init__(self):
        if not self.kinds:
            raise UserError("TaskHeads.kinds is empty; name the model's heads, such as {'mnli': 'classification'}")
        for name, kind in self.kinds.items():
            if kind not in get_args(TaskKind):
                raise UserError(f"TaskHeads.kinds[{name!r}] is {kind!r}; choose one of {', '.join(get_args(TaskKind))}")
            if kind == "reward":
                raise UserError(f"TaskHeads.kinds[{name!r}] is a reward, which learns from pairs; leave it out")
        if taken := sorted({LANGUAGE_MODEL, ROUTER} & set(self.kinds)):
            raise UserError(f"TaskHeads.kinds has a head {taken[0]!r}, the name of another term; rename the head")
        if strangers := sorted(set(self.coefficients) - set(self.kinds)):
            raise UserError(f"TaskHeads.coefficients has {strangers[0]!r}, which TaskHeads.kinds has not; add it there")
        if self.segments < 1:
            raise UserError(f"TaskHeads.segments is {self.segments}; give the most segments of a row, at least 1")

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """Inputs, labels and weights of every head, targets where the language model counts, `piece_ids` for choices.

        Raises:
          UserError: the model has not such heads.
        """
        config = configs["policy"]
        fields, side = input_fields(config), side_of(config)
        if self.language_model:
            fields += target_fields(config)
        tasks = getattr(transformer(config), "tasks", ())
        held = {spec.name: spec.kind for spec in tasks if isinstance(spec, TaskHeadSpec)}
        for name, kind in self.kinds.items():
            if name not in held:
                names = ", ".join(held) or "none"
                raise UserError(f"TaskHeads.kinds has {name!r}; the model's task heads are {names}")
            if held[name] != kind:
                raise UserError(f"TaskHeads.kinds[{name!r}] is {kind}; the model's head is of kind {held[name]}")
        own = tuple(f"{side}_{name}_{what}" for name in self.kinds for what in ("labels", "weights"))
        pieces = (f"{side}_piece_ids",) if "choice" in self.kinds.values() else ()
        return (*fields, *own, *pieces)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """Of each head the weights of its segments (tags: tokens; choices: the right ones); of routers the rows."""
        found = {name: jnp.sum(units(kind, self._facts(name, batch))) for name, kind in self.kinds.items()}
        if self.language_model:
            found[LANGUAGE_MODEL] = jnp.sum(loss_weights(batch).astype(jnp.float32))
        return {**found, ROUTER: router_weight(batch)}

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """Terms and metrics of every head: NAME_nll or NAME_mse, NAME_accuracy or NAME_exact_match."""
        del now
        policy = models["policy"]
        hidden, router_losses = hidden_states(policy, batch)
        router = router_terms(router_losses, batch)
        heads, losses, metrics = policy.tasks, dict(router.losses), dict(router.metrics)
        for name, kind in self.kinds.items():
            facts = self._facts(name, batch)
            scored = score(heads[name], hidden, facts)
            weight = jnp.sum(units(kind, facts))
            losses[name] = self.coefficients.get(name, 1.0) * scored.loss
            metrics |= _metrics(name, scored, weight)
        metrics["segments_left_out"] = self._left_out(batch)
        if self.language_model:
            side, w_BL = _side(batch), loss_weights(batch).astype(jnp.float32)
            targets, size = batch[f"{side}_target_tokens"], policy.execution.loss_chunk
            total, weight = summed_cross_entropy(policy.head, hidden, targets, w_BL, chunk_size=size), jnp.sum(w_BL)
            losses[LANGUAGE_MODEL] = self.language_model * total.loss
            metrics |= {"nll": (total.nll, weight), "correct": (total.correct, weight)}
        return Sums(losses, metrics)

    def _facts(self, name: str, batch: Batch) -> Facts:
        side = _side(batch)
        return Facts(
            labels=batch[f"{side}_{name}_labels"],
            weights=batch[f"{side}_{name}_weights"].astype(jnp.float32),
            segment_ids=batch[f"{side}_segment_ids"],
            piece_ids=batch.get(f"{side}_piece_ids"),
            segments=self.segments,
        )

    def _left_out(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
        held = jnp.max(batch[f"{_side(batch)}_segment_ids"], axis=-1).astype(jnp.float32)
        return jnp.sum(jnp.maximum(held - self.segments, 0)), jnp.sum(held)


def _side(batch: Batch) -> str:
    return "decoder" if "decoder_segment_ids" in batch else "encoder"


def _metrics(name: str, scored: Scored, weight: jax.Array) -> dict[str, tuple[jax.Array, jax.Array]]:
    return {f"{name}_{key}": (jax.lax.stop_gradient(value), weight) for key, value in scored.metrics.items()}
