"""How each kind of model reads a batch: which fields it takes, which targets its head is scored on."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from t5x_style.data.objectives.objective import Objective
from t5x_style.errors import UserError
from t5x_style.models.specs import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from t5x_style.models.specs.recurrent_config import RecurrentConfig

Batch = dict[str, jax.Array]

_SIDES: dict[type, tuple[str, ...]] = {
    DecoderConfig: ("decoder",),
    RecurrentConfig: ("decoder",),
    EncoderConfig: ("encoder",),
    EncoderDecoderConfig: ("encoder", "decoder"),
}


class Forward(NamedTuple):
    """A forward pass and what its loss needs.

    Attributes:
      hidden: [B, L, embed]. router_losses: of experts, {} without. targets: [B, L] ids. weights: [B, L], 0 on padding.
    """

    hidden: jax.Array
    router_losses: dict[str, jax.Array]
    targets: jax.Array
    weights: jax.Array


def check_fields(config: Any, objective: Objective) -> None:
    """Refuses a model that cannot be trained on what the objective makes.

    Raises:
      UserError: the model has no vocabulary head, no objective of its kind exists, or the objective makes the fields
        of another kind of model.
    """
    kind = type(config).__name__
    if type(config) not in _SIDES:
        raise UserError(f"TrainRun.model is a {kind}, which no objective trains yet; use a decoder or encoder preset")
    head = config.decoder.head if isinstance(config, EncoderDecoderConfig) else config.head
    if head is None:
        raise UserError("TrainRun.model has head=None; give it a HeadSpec, the loss is over the vocabulary")
    needed, made = set(_SIDES[type(config)]), set(objective.spec.sides)
    if needed != made:
        raise UserError(
            f"TrainRun.model is a {kind}, which reads the fields of {_named(needed)}; the objective "
            f"{type(objective).__name__} makes those of {_named(made)}; choose a model or an objective to fit"
        )


def forward(model: Any, batch: Batch) -> Forward:
    """Runs a model on the fields of one microbatch, see data/batches.py."""
    config = getattr(model, "architecture", model.config)
    if isinstance(config, EncoderConfig):
        arguments = {"segment_ids": batch["encoder_segment_ids"], "positions": batch["encoder_positions"]}
        hidden, losses = model(
            batch["encoder_input_tokens"],
            **arguments,
            token_types=batch.get("encoder_token_types"),
            return_losses=True,
        )
        return Forward(hidden, losses, batch["encoder_target_tokens"], batch["encoder_loss_weights"])
    arguments = {"segment_ids": batch["decoder_segment_ids"], "positions": batch["decoder_positions"]}
    if isinstance(config, EncoderDecoderConfig):
        arguments |= {
            "encoder_tokens": batch["encoder_input_tokens"],
            "encoder_segment_ids": batch["encoder_segment_ids"],
            "encoder_positions": batch["encoder_positions"],
        }
    else:
        arguments["causal_attention"] = batch.get("decoder_causal_attention")
    hidden, losses = model(batch["decoder_input_tokens"], **arguments, return_losses=True)
    return Forward(hidden, losses, batch["decoder_target_tokens"], batch["decoder_loss_weights"])


def _named(sides: set[str]) -> str:
    return " and ".join(f"an {side}" if side == "encoder" else f"a {side}" for side in sorted(sides, reverse=True))
