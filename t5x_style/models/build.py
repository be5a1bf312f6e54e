"""Builds models from configurations, really or as shapes only, and counts their parameters."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import nnx

from t5x_style.models.decoder import Decoder
from t5x_style.models.encoder import Encoder
from t5x_style.models.encoder_decoder import EncoderDecoder
from t5x_style.models.recurrent import RecurrentDecoder
from t5x_style.models.specs import (
    DEFAULT_EXECUTION,
    FLOAT32,
    DecoderConfig,
    DtypePolicy,
    EncoderConfig,
    EncoderDecoderConfig,
    Execution,
)
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig
from t5x_style.models.xlnet import XLNet

_MODELS: dict[type, type] = {
    DecoderConfig: Decoder,
    EncoderConfig: Encoder,
    EncoderDecoderConfig: EncoderDecoder,
    XLNetConfig: XLNet,
    RecurrentConfig: RecurrentDecoder,
}


def build(
    config: Any, rngs: nnx.Rngs | int = 0, policy: DtypePolicy = FLOAT32, execution: Execution = DEFAULT_EXECUTION
) -> Any:
    """A model with drawn weights: a Decoder, Encoder or EncoderDecoder, as the configuration says.

    Args:
      rngs: an nnx.Rngs or a seed; the same seed gives the same weights. May be traced (for jitted, sharded init).
      execution: how it runs; `model.execution` on every kind of model.

    Raises:
      UserError: the model cannot run as `execution` says.
    """
    if not isinstance(rngs, nnx.Rngs):
        rngs = nnx.Rngs(rngs)
    # Variables must not be laid out as they are created: shardings come from mesh tables, for whole states.
    with nnx.use_eager_sharding(False):
        return _MODELS[type(config)](config, policy=policy, rngs=rngs, execution=execution)


def abstract(config: Any, policy: DtypePolicy = FLOAT32, execution: Execution = DEFAULT_EXECUTION) -> Any:
    """The model with ShapeDtypeStructs for arrays: no memory, no computation."""
    return nnx.eval_shape(lambda: build(config, 0, policy, execution))


def parameter_count(config: Any) -> int:
    """Number of trained parameters, the padded vocabulary included, tied tables once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(abstract(config), nnx.Param)))
