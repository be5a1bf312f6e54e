"""How each kind of model reads a batch: which fields it takes, which targets its head is scored on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from t5x_style.errors import UserError
from t5x_style.models.specs import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from t5x_style.models.specs.recurrent_config import RecurrentConfig

# Fields of a model that an objective may leave out.
OPTIONAL_FIELDS = frozenset(
    {"decoder_causal_attention", "encoder_token_types", "encoder_piece_ids", "decoder_piece_ids", "source_ids"}
)
_READS: dict[type, tuple[str, ...]] = {
    DecoderConfig: ("decoder_causal_attention",),
    RecurrentConfig: ("decoder_causal_attention",),
    EncoderConfig: ("encoder_token_types",),
    EncoderDecoderConfig: ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions"),
}


class Forward(NamedTuple):
    """A forward pass and what its loss needs.

    Attributes:
      hidden: [B, L, embed]. router_losses: of experts, [B] each, {} without.
      targets: [B, L] ids. weights: [B, L], 0 on padding.
    """

    hidden: jax.Array
    router_losses: dict[str, jax.Array]
    targets: jax.Array
    weights: jax.Array


def side_of(config: Any) -> str:
    """The side whose tokens a model of this kind gives hidden states for: "encoder" or "decoder"."""
    return "encoder" if isinstance(config, EncoderConfig) else "decoder"


def input_fields(config: Any) -> tuple[str, ...]:
    """The fields that `hidden_states` reads, those included that may be missing (OPTIONAL_FIELDS).

    Raises:
      UserError: no loss trains this kind of model yet.
    """
    if type(config) not in _READS:
        kind = type(config).__name__
        raise UserError(f"TrainRun.model is a {kind}, which no objective trains yet; use a decoder or encoder preset")
    side = side_of(config)
    return (f"{side}_input_tokens", f"{side}_segment_ids", f"{side}_positions", *_READS[type(config)])


def target_fields(config: Any) -> tuple[str, ...]:
    """The fields of a loss over the vocabulary: targets and their weights.

    Raises:
      UserError: the model has no vocabulary head.
    """
    head = config.decoder.head if isinstance(config, EncoderDecoderConfig) else config.head
    if head is None:
        raise UserError("TrainRun.model has head=None; give it a HeadSpec, the loss is over the vocabulary")
    side = side_of(config)
    return (f"{side}_target_tokens", f"{side}_loss_weights")


def hidden_states(model: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Runs a model on the fields of one microbatch (data/batches.py): (hidden [B, L, embed], router losses [B])."""
    config = getattr(model, "architecture", model.config)
    side = side_of(config)
    arguments = {"segment_ids": batch[f"{side}_segment_ids"], "positions": batch[f"{side}_positions"]}
    if isinstance(config, EncoderConfig):
        arguments["token_types"] = batch.get("encoder_token_types")
    elif isinstance(config, EncoderDecoderConfig):
        arguments |= {
            "encoder_tokens": batch["encoder_input_tokens"],
            "encoder_segment_ids": batch["encoder_segment_ids"],
            "encoder_positions": batch["encoder_positions"],
        }
    else:
        arguments["causal_attention"] = batch.get("decoder_causal_attention")
    return model(batch[f"{side}_input_tokens"], **arguments, return_losses=True)


def forward(model: Any, batch: Mapping[str, jax.Array]) -> Forward:
    """`hidden_states` and what a loss over the vocabulary compares them with."""
    hidden, losses = hidden_states(model, batch)
    side = side_of(getattr(model, "architecture", model.config))
    return Forward(hidden, losses, batch[f"{side}_target_tokens"], batch[f"{side}_loss_weights"])
