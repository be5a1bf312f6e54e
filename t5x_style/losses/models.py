"""What the losses ask of models: the fields they read, hidden states without targets, a copy that gets no gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.losses.chunked import CHUNK_SIZE
from t5x_style.losses.forward import Forward, forward
from t5x_style.losses.routers import add_router_losses
from t5x_style.models.specs import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from t5x_style.models.specs.recurrent_config import RecurrentConfig

_ENCODER = ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions")
_DECODER = ("decoder_input_tokens", "decoder_segment_ids", "decoder_positions")
# Read where a batch has them: a prefix that is seen in both directions, which of two texts a token is of, and which
# segments belong together.
OPTIONAL = ("decoder_causal_attention", "encoder_token_types", "encoder_piece_ids", "decoder_piece_ids")
ROUTERS = "routers"
_INPUTS: dict[type, tuple[str, ...]] = {
    DecoderConfig: (*_DECODER, "decoder_causal_attention"),
    RecurrentConfig: (*_DECODER, "decoder_causal_attention"),
    EncoderConfig: (*_ENCODER, "encoder_token_types"),
    EncoderDecoderConfig: (*_ENCODER, *_DECODER),
}


def input_fields(config: Any, loss: str) -> tuple[str, ...]:
    """The fields that a model's trunk reads; those in OPTIONAL may be missing from a batch.

    Args:
      config: its architecture. loss: who asks, for the message.

    Raises:
      UserError: no loss can feed such a model.
    """
    if type(config) not in _INPUTS:
        raise UserError(f"{loss} cannot train a {type(config).__name__}; use a decoder or encoder preset")
    return _INPUTS[type(config)]


def scored_side(config: Any) -> str:
    """The side whose hidden states the heads see: "encoder" of an encoder, else "decoder"."""
    return "encoder" if isinstance(config, EncoderConfig) else "decoder"


def transformer(config: Any) -> Any:
    """The part of a configuration that has the heads: the decoder of an encoder-decoder, else all of it."""
    return config.decoder if isinstance(config, EncoderDecoderConfig) else config


def language_model_fields(config: Any, loss: str) -> tuple[str, ...]:
    """The fields for scoring every target of a model: `input_fields`, and targets and weights of its scored side.

    Raises:
      UserError: no loss can feed such a model, or it has no vocabulary head.
    """
    fields = input_fields(config, loss)
    if transformer(config).head is None:
        raise UserError(f"{loss} scores the vocabulary and the model has head=None; give it a HeadSpec")
    side = scored_side(config)
    return (*fields, f"{side}_target_tokens", f"{side}_loss_weights")


def loss_weights(batch: Mapping[str, jax.Array]) -> jax.Array:
    """Weights [B, L] of the targets of a batch: the decoder's where it has one, else the encoder's."""
    side = "decoder" if "decoder_loss_weights" in batch else "encoder"
    return batch[f"{side}_loss_weights"].astype(jnp.float32)


def hidden_states(model: Any, batch: Mapping[str, jax.Array]) -> Forward:
    """`forward` for batches that may have no targets: those are zeros then, as are the weights."""
    side = scored_side(getattr(model, "architecture", model.config))
    tokens = batch[f"{side}_input_tokens"]
    absent = {f"{side}_target_tokens": tokens, f"{side}_loss_weights": jnp.zeros(tokens.shape, jnp.float32)}
    return forward(model, {**absent, **batch})


def frozen(model: Any) -> Any:
    """The same model with arrays that get no gradient, also where they are those that train."""
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree.map(jax.lax.stop_gradient, state))


def loss_chunk(model: Any) -> int:
    """Tokens a device scores at once: the model's `execution.loss_chunk` where it has one, else CHUNK_SIZE."""
    return getattr(getattr(model, "execution", None), "loss_chunk", CHUNK_SIZE)


def router_weight(batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    """The weight of the term "routers": the rows of a microbatch."""
    return {ROUTERS: jnp.float32(len(next(iter(batch.values()))))}


def router_term(passed: Forward) -> tuple[dict[str, jax.Array], dict[str, tuple[jax.Array, jax.Array]]]:
    """(the term "routers", its parts as metrics) of a model with experts, ({}, {}) of another.

    A term of its own, so that routers count alike whatever weight the other terms of a batch have.
    """
    rows = jnp.float32(passed.hidden.shape[0])
    total, _, sums = add_router_losses(jnp.float32(0), rows, {}, passed.router_losses)
    return {ROUTERS: total} if sums else {}, {name: (value, rows) for name, value in sums.items()}
