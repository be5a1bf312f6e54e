"""The form of a model that decodes fast: layers unstacked, matrices in the compute dtype and in reading order."""

from __future__ import annotations

import math
from typing import Any

import jax
from flax import nnx

from t5x_style.models.layers.embedding import Embedding
from t5x_style.models.layers.linear import Linear
from t5x_style.models.stack import Trunk, TrunkLayerGroup, UnstackedLayerGroup

# Up to so many tokens a product is bound by reading its matrix, and the order of the operands matters.
FEW_TOKENS = 32


class DecodingLinear(nnx.Module):
    """A Linear whose kernel lies as [outputs, inputs], both flattened.

    A few tokens are multiplied as kernel @ x^T. XLA's CPU products pack their right-hand side before they use it; here
    that is the small x, not the large kernel.
    """

    def __init__(self, linear: Linear, kernel: jax.Array):
        """Takes over a Linear; kernel: its own as [outputs, inputs], see `_flat`."""
        shape, self.input_rank = linear.kernel.shape, linear.input_rank
        self.policy = linear.policy
        self.outputs = tuple(shape[self.input_rank :])
        self.kernel = nnx.Param(kernel)
        self.bias = linear.bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., *inputs] -> [..., *outputs] in the compute dtype."""
        dtype = self.policy.dtype("compute")
        leading = x.shape[: x.ndim - self.input_rank]
        kernel_NK = self.kernel[...].astype(dtype)
        x_MK = x.astype(dtype).reshape(-1, kernel_NK.shape[1])
        if 1 < x_MK.shape[0] <= FEW_TOKENS:
            # Without the barriers XLA folds the transposes into the product and swaps its operands back.
            x_KM = jax.lax.optimization_barrier(x_MK.T)
            y_MN = jax.lax.optimization_barrier(kernel_NK @ x_KM).T
        else:
            y_MN = x_MK @ kernel_NK.T
        y = y_MN.reshape(*leading, *self.outputs)
        return y if self.bias is None else y + self.bias[...].astype(dtype)


def prepare(model: Any) -> Any:
    """The same model with every layer's weights as arrays of their own, matrices in the compute dtype; once, on load.

    Decoding on stacked weights copies each layer out of the stack at every token. Decoders, encoders and
    encoder-decoders; a prepared model, and a model without stacked layers, is returned as is.
    """
    if not any(_stacked(trunk) for trunk in _trunks(model)):
        return model
    prepared = nnx.merge(*nnx.split(model))
    with nnx.use_eager_sharding(False):
        for _, module in nnx.iter_modules(prepared):
            if isinstance(module, (Linear, Embedding)):  # norms stay: they compute in the reductions dtype
                dtype = module.policy.dtype("compute")  # a router's own is float32
                for parameter in vars(module).values():
                    if isinstance(parameter, nnx.Param):
                        parameter.set_value(parameter.get_value().astype(dtype))
        for trunk in _trunks(prepared):
            trunk.segments = nnx.List([_unstacked(group) for group in trunk.segments])
        _turn_kernels(prepared)
    return prepared


def _unstacked(group: Any) -> Any:
    return UnstackedLayerGroup(group) if isinstance(group, TrunkLayerGroup) else group


def _turn_kernels(model: nnx.Module) -> None:
    """Replaces every Linear; a subclass (adapters, experts) has its own product and stays."""
    turned: dict[int, tuple[jax.Array, jax.Array]] = {}  # layers that share an array go on sharing it
    for _, module in list(nnx.iter_modules(model)):
        for name, linear in list(vars(module).items()):
            if type(linear) is Linear and linear.adapter is None:  # with an adapter it stays as it is
                kernel = linear.kernel.get_value()
                if id(kernel) not in turned:
                    turned[id(kernel)] = kernel, _flat(kernel, linear.input_rank)
                setattr(module, name, DecodingLinear(linear, turned[id(kernel)][1]))


def _flat(kernel: jax.Array, input_rank: int) -> jax.Array:
    """[*inputs, *outputs] -> [outputs, inputs]."""
    return kernel.reshape(math.prod(kernel.shape[:input_rank]), -1).T


def _trunks(model: Any) -> list[Trunk]:
    """The decoder's and the encoder's, where there are such."""
    named = (getattr(model, name, None) for name in ("trunk", "encoder_trunk"))
    return [trunk for trunk in named if isinstance(trunk, Trunk)]


def _stacked(trunk: Trunk) -> bool:
    return any(isinstance(group, TrunkLayerGroup) for group in trunk.segments)
