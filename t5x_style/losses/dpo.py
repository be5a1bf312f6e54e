"""Direct preference optimisation (Rafailov et al. 2023): answers that people preferred against those they did not.

A pair is two segments of one row, the chosen answer in front: segments 2k - 1 and 2k of a row are its pair k. The
prompt stands in both, with loss weight 0. Worked example of one row (two pairs, prompts [7] and [5, 6]):

    decoder_target_tokens  [7, 8, 9, 7, 4, 5, 6, 1, 5, 6, 2, 0]
    decoder_segment_ids    [1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 0]
    decoder_loss_weights   [0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0]    chosen [8, 9] over [4], [1] over [2]

With log-ratios (policy minus reference, summed over an answer) of [.6, -.2] and [.1, .3] the margins h are [.8, -.2]
and the loss at beta .1 is the mean of -log sigmoid(.08) and -log sigmoid(-.02) = (.6539 + .7032) / 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError
from t5x_style.losses.chunked import token_log_probs
from t5x_style.losses.forward import Forward, forward, input_fields, side_of, target_fields
from t5x_style.losses.frozen import check_frozen, check_same_task, frozen, frozen_hidden
from t5x_style.losses.loss import Batch, Loss, ModelSource, Now, Sums
from t5x_style.losses.routers import router_terms, router_weight

Kind = Literal["sigmoid", "sigmoid_norm", "robust", "hinge", "ipo"]
_PER_TOKEN = ("sigmoid_norm", "ipo")  # kinds over means of tokens, the others over sums


class Pairs(NamedTuple):
    """The pairs of packed rows.

    Attributes:
      held: [B, L, 2P] bool, which segment 1, 2, ..., 2P a token is of.
      tokens: [B, P, 2] loss weight of each answer, chosen first.
      present: [B, P] 1.0 where a row has the pair: both answers, each with some weight.
      unpaired, segments: scalars: segments that are in no pair, and all of them.
    """

    held: jax.Array
    tokens: jax.Array
    present: jax.Array
    unpaired: jax.Array
    segments: jax.Array


@dataclasses.dataclass(frozen=True)
class DPO(Loss):
    """One term, "dpo", divided by the number of pairs (and "router" of experts).

    With h = log-ratio of the chosen minus log-ratio of the rejected answer, log-ratio = log p of the policy minus log p
    of the reference, and e = label_smoothing:

        sigmoid       -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h); e > 0 is conservative DPO (Mitchell 2023)
        sigmoid_norm  the same with each log-ratio divided by its tokens (Lambert et al. 2024, Tulu 3, with beta 5)
        robust        (-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e) (Chowdhury et al. 2024)
        hinge         max(0, 1 - beta h) (Zhao et al. 2023, SLiC)
        ipo           (h - 1 / (2 beta)) ** 2, log-ratios divided by tokens (Azar et al. 2024)

    Attributes:
      reference: the frozen model; by default where the policy starts.
      beta: strength of the pull to the reference.
      kind: see above.
      label_smoothing: share of pairs whose order is taken to be wrong, in [0, .5); not for hinge and ipo.
      pairs: most pairs of a row.
    """

    reference: ModelSource = ModelSource()
    beta: float = 0.1
    kind: Kind = "sigmoid"
    label_smoothing: float = 0.0
    pairs: int = 1

    def __post_init__(self):
        check_frozen("DPO.reference", self.reference)
        if self.kind not in get_args(Kind):
            raise UserError(f"DPO.kind is {self.kind!r}; choose one of {', '.join(get_args(Kind))}")
        if self.beta <= 0:
            raise UserError(f"DPO.beta is {self.beta}; give a number above 0")
        if not 0 <= self.label_smoothing < 0.5:
            raise UserError(f"DPO.label_smoothing is {self.label_smoothing}; give a share from 0 to below .5")
        if self.label_smoothing and self.kind in ("hinge", "ipo"):
            raise UserError(f"DPO.label_smoothing has no meaning for kind {self.kind}; set it to 0")
        if self.pairs < 1:
            raise UserError(f"DPO.pairs is {self.pairs}; give the most pairs of a row, at least 1")

    def models(self) -> Mapping[str, ModelSource]:
        """The reference."""
        return {"reference": self.reference}

    def reads(self, configs: Mapping[str, Any]) -> tuple[str, ...]:
        """Inputs, targets and weights of the policy.

        Raises:
          UserError: an encoder, or a reference of another kind or vocabulary.
        """
        policy = configs["policy"]
        if side_of(policy) != "decoder":
            raise UserError("DPO needs the probability of an answer, which an encoder does not give; use a decoder")
        check_same_task("DPO", "reference", configs["reference"], policy)
        return input_fields(policy) + target_fields(policy)

    def weights(self, batch: Batch) -> dict[str, jax.Array]:
        """The number of pairs; of the router term the rows with tokens."""
        count = jnp.sum(pairs_of(batch, self.pairs).present)
        return {"dpo": count, "router": router_weight(batch)}

    def __call__(self, models: Mapping[str, Any], batch: Batch, now: Now) -> Sums:
        """Term {"dpo"}; metrics over pairs (rewards: beta times log-ratios), and the share "unpaired" of segments."""
        del now
        pairs = pairs_of(batch, self.pairs)
        policy, reference = models["policy"], frozen(models["reference"])
        passed = forward(policy, batch)
        ours_BP2 = _answers(policy, passed.hidden, passed, pairs)
        theirs_BP2 = _answers(reference, frozen_hidden(reference, batch), passed, pairs)
        ratio_BP2 = ours_BP2 - theirs_BP2
        if self.kind in _PER_TOKEN:
            ratio_BP2 = ratio_BP2 / jnp.where(pairs.present[..., None] > 0, pairs.tokens, 1)
        count = jnp.sum(pairs.present)
        loss_BP = preference_loss(ratio_BP2[..., 0] - ratio_BP2[..., 1], self.beta, self.kind, self.label_smoothing)
        router = router_terms(passed.router_losses, batch)

        def over_pairs(value_BP: jax.Array) -> tuple[jax.Array, jax.Array]:
            return jax.lax.stop_gradient(jnp.sum(pairs.present * value_BP)), count

        rewards_BP2 = self.beta * ratio_BP2
        metrics = {
            "accuracy": over_pairs((rewards_BP2[..., 0] > rewards_BP2[..., 1]).astype(jnp.float32)),
            "margin": over_pairs(rewards_BP2[..., 0] - rewards_BP2[..., 1]),
            "chosen_reward": over_pairs(rewards_BP2[..., 0]),
            "rejected_reward": over_pairs(rewards_BP2[..., 1]),
            "chosen_log_prob": over_pairs(ours_BP2[..., 0]),
            "rejected_log_prob": over_pairs(ours_BP2[..., 1]),
            "unpaired": (pairs.unpaired, pairs.segments),
        }
        return Sums({"dpo": jnp.sum(pairs.present * loss_BP), **router.losses}, {**metrics, **router.metrics})


def preference_loss(h: jax.Array, beta: float, kind: Kind, label_smoothing: float = 0.0) -> jax.Array:
    """The loss of each pair from h, the difference of its log-ratios; formulas and sources are in `DPO`."""
    if kind == "hinge":
        return jax.nn.relu(1 - beta * h)
    if kind == "ipo":
        return jnp.square(h - 1 / (2 * beta))
    right, wrong = -jax.nn.log_sigmoid(beta * h), -jax.nn.log_sigmoid(-beta * h)
    if kind == "robust":
        return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)
    return (1 - label_smoothing) * right + label_smoothing * wrong


def pairs_of(batch: Batch, pairs: int) -> Pairs:
    """Which segments of each row are pairs, up to `pairs` a row; from the batch alone.

    Example, segments of [2, 1, 1] weighted tokens, pairs=2: tokens [[2, 1], [1, 0]], present [1, 0], unpaired 1 of 3.
    """
    ids_BL, w_BL = batch["decoder_segment_ids"], batch["decoder_loss_weights"].astype(jnp.float32)
    held = ids_BL[..., None] == jnp.arange(1, 2 * pairs + 1)
    tokens = jnp.sum(jnp.where(held, w_BL[..., None], 0), axis=1).reshape(-1, pairs, 2)
    present = jnp.all(tokens > 0, axis=-1).astype(jnp.float32)
    segments = jnp.sum(jnp.max(ids_BL, axis=-1)).astype(jnp.float32)
    return Pairs(held, tokens, present, segments - 2 * jnp.sum(present), segments)


def _answers(model: Any, hidden: jax.Array, passed: Forward, pairs: Pairs) -> jax.Array:
    """Log-probabilities [B, P, 2] of the answers, 0 where there is none."""
    scores = token_log_probs(model.head, hidden, passed.targets, chunk_size=model.execution.loss_chunk)
    values_BL = scores.log_probs * passed.weights.astype(jnp.float32)
    sums = jnp.sum(jnp.where(pairs.held, values_BL[..., None], 0), axis=1)
    return sums.reshape(*pairs.tokens.shape)
