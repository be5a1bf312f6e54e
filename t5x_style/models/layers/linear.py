"""The one Linear: every matrix of every model is applied here.

Adapters and quantised weights attach to this class, sharding reads its axis names. Input and output may have several
dimensions (embed -> heads x head_dim), so that heads shard without reshapes; the product is one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.specs import DtypePolicy

Product = Callable[[jax.Array, jax.Array], jax.Array]  # (inputs, kernel) -> outputs

# Standard deviation of a unit normal truncated to [-2, 2]; dividing by it restores the wanted one.
TRUNCATED_STDDEV = 0.87962566103423978


def truncated_normal(key: jax.Array, shape: Sequence[int], stddev: float, dtype: jnp.dtype) -> jax.Array:
    """Normal values cut at two standard deviations, rescaled to `stddev`."""
    values = jax.random.truncated_normal(key, -2.0, 2.0, tuple(shape), jnp.float32)
    return (values * (stddev / TRUNCATED_STDDEV)).astype(dtype)


class Linear(nnx.Module):
    """y = x @ kernel + bias over the trailing `inputs` dimensions of x.

    Attributes:
      kernel: [*inputs, *outputs]. bias: [*outputs] or None.
      adapter: a module `(x, product) -> what is added to x @ kernel`, attached after the build (see peft), or None.
    """

    adapter: nnx.Module | None = None

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        axes: tuple[str | None, ...],
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        bias: bool = False,
        stddev: float | None = None,
        gain: float = 1.0,
    ):
        """Draws the weights.

        Args:
          inputs, outputs: dimensions contracted and produced. axes: their logical names, inputs first.
          stddev: None means fan_in ** -0.5. gain: multiplies it.
        """
        inputs, outputs = tuple(inputs), tuple(outputs)
        self.policy = policy
        self.input_rank = len(inputs)
        dtype = policy.dtype("params")
        scale = gain * (math.prod(inputs) ** -0.5 if stddev is None else stddev)
        self.kernel = nnx.Param(truncated_normal(rngs.params(), inputs + outputs, scale, dtype), out_sharding=axes)
        self.bias = nnx.Param(jnp.zeros(outputs, dtype), out_sharding=axes[len(inputs) :]) if bias else None

    def __call__(self, x: jax.Array, product: Product | None = None) -> jax.Array:
        """[..., *inputs] -> [..., *outputs] in the compute dtype.

        Args:
          product: multiplies x by the kernel, both in the compute dtype; None: the contraction. See ExpertLinear.
        """
        dtype = self.policy.dtype("compute")
        product = self._contract if product is None else product
        x = x.astype(dtype)
        y = product(x, self.weight())
        if self.adapter is not None:
            y = y + self.adapter(x, product)
        return y if self.bias is None else y + self.bias[...].astype(dtype)

    def weight(self) -> jax.Array:
        """The matrix [*inputs, *outputs] in the compute dtype: the one place that knows how it is stored."""
        return self.kernel[...].astype(self.policy.dtype("compute"))

    def _contract(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        rank = self.input_rank
        if mesh.is_split():  # merging dimensions that devices split would move data between them
            contract = tuple(range(x.ndim - rank, x.ndim)), tuple(range(rank))
            return jax.lax.dot_general(x, kernel, (contract, ((), ())))
        # One plain matrix product, also for its gradients: XLA's CPU backend takes a tenth longer for the general one.
        leading, width = x.shape[: x.ndim - rank], math.prod(kernel.shape[:rank])
        product = _product if jax.default_backend() == "cpu" else jnp.matmul
        return product(x.reshape(-1, width), kernel.reshape(width, -1)).reshape(*leading, *kernel.shape[rank:])


@jax.custom_vjp
def _product(x_NI: jax.Array, kernel_IO: jax.Array) -> jax.Array:
    """[N, I] @ [I, O], N tokens."""
    return x_NI @ kernel_IO


def _product_saved(x_NI: jax.Array, kernel_IO: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x_NI @ kernel_IO, (x_NI, kernel_IO)


def _product_gradients(saved: tuple[jax.Array, jax.Array], dy_NO: jax.Array) -> tuple[jax.Array, jax.Array]:
    """XLA's CPU backend has a faster product for x^T once it is written out: 170 against 140 GFLOP/s."""
    x_NI, kernel_IO = saved
    return dy_NO @ kernel_IO.T, jax.lax.optimization_barrier(x_NI.T) @ dy_NO


_product.defvjp(_product_saved, _product_gradients)


class ExpertLinear(Linear):
    """One matrix an expert in a kernel [experts, inputs, outputs].

    Which token meets which matrix is the caller's matter: it calls with the product, grouped or batched over experts.
    """

    def __init__(
        self,
        experts: int,
        inputs: int,
        outputs: int,
        *,
        axes: tuple[str | None, str | None],
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None = None,
        gain: float = 1.0,
    ):
        """Draws the weights; axes: logical names of inputs and outputs, stddev: None means inputs ** -0.5."""
        stddev = inputs**-0.5 if stddev is None else stddev
        names = ("expert", *axes)
        super().__init__((experts, inputs), (outputs,), axes=names, policy=policy, rngs=rngs, stddev=stddev, gain=gain)
