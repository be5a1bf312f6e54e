"""The models of a loss that do not train: teachers and references."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from t5x_style.errors import UserError
from t5x_style.losses.forward import OPTIONAL_FIELDS, hidden_states, input_fields
from t5x_style.losses.loss import ModelSource
from t5x_style.models import randomness
from t5x_style.models.specs import EncoderDecoderConfig


def frozen(model: Any) -> Any:
    """The same model with arrays that get no gradient, also where they are those that train."""
    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree.map(jax.lax.stop_gradient, state))


def frozen_hidden(model: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Hidden states [B, L, embed] of a frozen model, without dropout."""
    with randomness.rows(None):
        return hidden_states(model, batch)[0]


def transformer(config: Any) -> Any:
    """The part of a configuration that has the heads: the decoder of an encoder-decoder, else all of it."""
    return config.decoder if isinstance(config, EncoderDecoderConfig) else config


def check_frozen(where: str, source: ModelSource) -> None:
    """Raises UserError where a model that only answers is to train: it would get no gradient, but weight decay."""
    if source.trainable:
        raise UserError(f"{where} has trainable={tuple(source.trainable)}; it only answers: leave trainable out")


def check_same_task(loss: str, name: str, config: Any, policy: Any) -> None:
    """Refuses a model that does not score what the policy does.

    Args:
      loss, name: who asks, and what it calls the model. config, policy: the architectures.

    Raises:
      UserError: other fields, another vocabulary, or no head.
    """
    ours, theirs = (set(input_fields(each)) - OPTIONAL_FIELDS for each in (policy, config))
    if ours != theirs:
        raise UserError(
            f"{loss}: the {name} is a {type(config).__name__} and the model a {type(policy).__name__}, which read "
            "other fields; choose two of a kind"
        )
    if transformer(config).head is None:
        raise UserError(f"{loss}: the {name} has head=None; give a model with a vocabulary head")
    if policy.vocab_size != config.vocab_size:
        raise UserError(
            f"{loss}: the {name} has {config.vocab_size} vocabulary ids and the model {policy.vocab_size}; "
            "they must share a tokenizer"
        )
