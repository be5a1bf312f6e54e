"""The form of a model that decodes fast."""

from __future__ import annotations

from typing import Any

from flax import nnx

from t5x_style.models.layers.embedding import Embedding
from t5x_style.models.layers.linear import Linear
from t5x_style.models.layers.moe import Moe
from t5x_style.models.stack import Trunk, TrunkSegment, UnstackedSegment


def prepare(model: Any) -> Any:
    """The same model with every layer's weights as arrays of their own, matrices in the compute dtype; once, on load.

    Decoding on stacked weights copies each layer out of the stack at every token. Decoders, encoders and
    encoder-decoders; a prepared model, and a model without stacked layers, is returned as is.
    """
    if not any(_stacked(trunk) for trunk in _trunks(model)):
        return model
    prepared = nnx.merge(*nnx.split(model))
    dtype = model.policy.dtype("compute")
    with nnx.use_eager_sharding(False):
        for _, module in nnx.iter_modules(prepared):
            if isinstance(module, (Linear, Embedding, Moe)):  # norms stay: they compute in the reductions dtype
                for parameter in vars(module).values():
                    if isinstance(parameter, nnx.Param):
                        parameter.set_value(parameter.get_value().astype(dtype))
        for trunk in _trunks(prepared):
            trunk.segments = nnx.List(
                [
                    UnstackedSegment(segment) if isinstance(segment, TrunkSegment) else segment
                    for segment in trunk.segments
                ]
            )
    return prepared


def _trunks(model: Any) -> list[Trunk]:
    """The decoder's and the encoder's, where there are such."""
    named = (getattr(model, name, None) for name in ("trunk", "encoder_trunk"))
    return [trunk for trunk in named if isinstance(trunk, Trunk)]


def _stacked(trunk: Trunk) -> bool:
    return any(isinstance(segment, TrunkSegment) for segment in trunk.segments)
