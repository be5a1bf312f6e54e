"""Mixture of experts: a router sends each token to its `top_k` experts (Shazeer et al. 2017; Fedus et al. 2022).

Array suffixes: B batch, L length, D embed, E experts, M hidden of one expert, T = B * L tokens, K choices a token,
C room of an expert in one row.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.config import DtypePolicy, MoeSpec
from t5x_style.models.layers.activations import ACTIVATIONS
from t5x_style.models.layers.linear import Linear, truncated_normal

Losses = dict[str, jax.Array]  # scalars, summed over layers
LOSS_NAMES = ("moe_balance", "moe_z", "moe_dropped")


class Choices(NamedTuple):
    """Where tokens go: experts int [B, L, K] and weights [B, L, K], best first; probabilities [B, L, E] of all."""

    experts: jax.Array
    weights: jax.Array
    probabilities: jax.Array


class Moe(nnx.Module):
    """Router, experts, weighted sum. The experts' matrices are stacked: [E, embed, hidden] and [E, hidden, embed]."""

    def __init__(
        self,
        spec: MoeSpec,
        embed_dim: int,
        *,
        policy: DtypePolicy,
        rngs: nnx.Rngs,
        stddev: float | None,
        output_gain: float,
    ):
        self.spec = spec
        self.policy = policy
        hidden, dtype = spec.mlp.hidden, policy.dtype("params")
        self.router = Linear(
            (embed_dim,), (spec.experts,), axes=("embed", None), policy=policy, rngs=rngs, stddev=stddev
        )

        def stack(inputs: int, outputs: int, axes: tuple[str, str], gain: float = 1.0) -> nnx.Param:
            scale = gain * (inputs**-0.5 if stddev is None else stddev)
            shape = (spec.experts, inputs, outputs)
            return nnx.Param(truncated_normal(rngs.params(), shape, scale, dtype), out_sharding=("expert", *axes))

        self.gate = stack(embed_dim, hidden, ("embed", "mlp")) if spec.mlp.gated else None
        self.up = stack(embed_dim, hidden, ("embed", "mlp"))
        self.down = stack(hidden, embed_dim, ("mlp", "embed"), output_gain)

    def __call__(self, x_BLD: jax.Array, visible_BL: jax.Array | None = None) -> tuple[jax.Array, Losses]:
        """[B, L, embed] -> ([B, L, embed], losses).

        Args:
          visible_BL: nonzero on tokens that count; padding takes no room and no part in the losses. None: all count.
        """
        logits_BLE = self._router_logits(x_BLD)
        chosen = choose(logits_BLE, self.spec)
        counted = (
            jnp.ones(x_BLD.shape[:2], jnp.float32) if visible_BL is None else (visible_BL != 0).astype(jnp.float32)
        )
        if self.spec.mode == "dropless":
            y_BLD, dropped = self._dropless(x_BLD, chosen), jnp.zeros((), jnp.float32)
        else:
            y_BLD, dropped = self._capacity(x_BLD, chosen, counted)
        losses = {
            "moe_balance": self.spec.balance_weight * balance_loss(chosen, counted),
            "moe_z": self.spec.z_weight * z_loss(logits_BLE, counted),
            "moe_dropped": dropped,
        }
        return mesh.constrain(y_BLD, ("act_batch", "act_length", "act_embed")), losses

    def _router_logits(self, x_BLD: jax.Array) -> jax.Array:
        """[B, L, E] float32: routing is decided in full precision (Fedus et al. 2022, section 2.4)."""
        kernel = self.router.kernel[...].astype(jnp.float32)
        return x_BLD.astype(jnp.float32) @ kernel

    def _experts(self, x_NTD: jax.Array, product) -> jax.Array:
        """The experts' feed-forward; `product(x, stacked matrices)` multiplies every token by its expert's matrix."""
        dtype, activation = self.policy.dtype("compute"), ACTIVATIONS[self.spec.mlp.activation]
        up = product(x_NTD, self.up[...].astype(dtype))
        hidden = activation(up) if self.gate is None else activation(product(x_NTD, self.gate[...].astype(dtype))) * up
        return product(hidden, self.down[...].astype(dtype))

    def _dropless(self, x_BLD: jax.Array, chosen: Choices) -> jax.Array:
        """Tokens sorted by expert, one grouped product a matrix, sorted back."""
        width, k = x_BLD.shape[-1], self.spec.top_k
        expert_of = chosen.experts.reshape(-1)  # [T * K]
        order = jnp.argsort(expert_of, stable=True)
        sizes = jnp.bincount(expert_of, length=self.spec.experts)
        sorted_x = x_BLD.reshape(-1, width)[order // k]
        sorted_y = self._experts(sorted_x, lambda x, kernels: jax.lax.ragged_dot(x, kernels, sizes))
        y_TKD = sorted_y[jnp.argsort(order)].reshape(-1, k, width)
        weights_TK = chosen.weights.reshape(-1, k).astype(y_TKD.dtype)
        return jnp.einsum("TKD,TK->TD", y_TKD, weights_TK).reshape(x_BLD.shape)

    def _capacity(self, x_BLD: jax.Array, chosen: Choices, counted_BL: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Every expert takes the first C choices of each row, all first choices before all second ones."""
        length, spec = x_BLD.shape[1], self.spec
        room = max(1, -(-int(spec.capacity_factor * spec.top_k * length) // spec.experts))
        # [B, K, L, E]: first choices of the whole row come first, as in GShard (Lepikhin et al. 2021, algorithm 1)
        wants = jax.nn.one_hot(chosen.experts, spec.experts).transpose(0, 2, 1, 3) * counted_BL[:, None, :, None]
        flat = wants.reshape(wants.shape[0], -1, spec.experts)
        place = (jnp.cumsum(flat, axis=1) - flat).reshape(wants.shape)
        taken = wants * (place < room)
        slot = jax.nn.one_hot(jnp.sum(place * wants, axis=-1).astype(jnp.int32), room)  # [B, K, L, C]
        dispatch_BLEC = jnp.einsum("BKLE,BKLC->BLEC", taken, slot)
        weights_BKL = chosen.weights.transpose(0, 2, 1)
        combine_BLEC = jnp.einsum("BKLE,BKLC,BKL->BLEC", taken, slot, weights_BKL)
        dtype = self.policy.dtype("compute")
        x_BECD = jnp.einsum("BLEC,BLD->BECD", dispatch_BLEC.astype(dtype), x_BLD)
        y_BECD = self._experts(x_BECD, lambda x, kernels: jnp.einsum("BECD,EDM->BECM", x, kernels))
        wanted = jnp.maximum(jnp.sum(wants), 1)
        dropped = 1 - jnp.sum(taken) / wanted
        return jnp.einsum("BLEC,BECD->BLD", combine_BLEC.astype(dtype), y_BECD), dropped


def choose(logits_BLE: jax.Array, spec: MoeSpec) -> Choices:
    """The router's decision.

    Worked example, two experts' logits [0, log 3], top_k 1: probabilities [.25, .75], expert 1; its weight is .75, or 1
    where `normalize` is set.
    """
    probabilities = jax.nn.softmax(logits_BLE.astype(jnp.float32), axis=-1)
    weights, experts = jax.lax.top_k(probabilities, spec.top_k)
    if spec.normalize:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return Choices(experts, weights, probabilities)


def balance_loss(chosen: Choices, counted_BL: jax.Array) -> jax.Array:
    """E * sum over experts of (share of choices) * (mean probability): 1 when even (Fedus et al. 2022, equation 4).

    With several choices a token all of them count, divided by their number.
    """
    experts = chosen.probabilities.shape[-1]
    total = jnp.maximum(jnp.sum(counted_BL), 1)
    picks = jnp.mean(jax.nn.one_hot(chosen.experts, experts), axis=2)  # [B, L, E]
    share = jnp.einsum("BLE,BL->E", picks, counted_BL) / total
    mean = jnp.einsum("BLE,BL->E", chosen.probabilities, counted_BL) / total
    return experts * jnp.sum(share * mean)


def z_loss(logits_BLE: jax.Array, counted_BL: jax.Array) -> jax.Array:
    """Mean square of the router's log-normalizer (Zoph et al. 2022, equation 5)."""
    normalizer = jax.nn.logsumexp(logits_BLE.astype(jnp.float32), axis=-1)
    return jnp.sum(jnp.square(normalizer) * counted_BL) / jnp.maximum(jnp.sum(counted_BL), 1)
