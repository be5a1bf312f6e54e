"""Mixture of experts: a router sends each token to its `top_k` experts (Shazeer et al. 2017; Fedus et al. 2022).

What holds for documents packed into one row, for the order of tokens, and for devices:

    mode                            other documents    later tokens                on many devices
    "dropless"                      never matter       never matter                own tokens, all experts
    "capacity" with per_document    never matter       never matter with top_k 1   own tokens, all experts
    "capacity"                      compete for room   never matter with top_k 1   own tokens or own experts

Losses are of a row: other rows never matter, and documents of one row share its balance.

With several choices a token, all first choices go before all second ones (Lepikhin et al. 2021, algorithm 1), so that a
later token's first choice can take the room of an earlier token's second; a decoder then decodes otherwise than it was
trained. Room that is shared by a row has static buffers, which shard over experts; per_document needs none, but
computes as dropless does: every device gathers all experts' matrices and groups the tokens that it holds, so that data
parallelism, ZeRO and context parallelism divide the work (measured: FLOPs of a device at data=4 are .25 of one alone).

Array suffixes: B batch, L length, D embed, E experts, M hidden of one expert, T = B * L tokens, K choices a token,
C room of an expert in one row, S as L: the tokens that stand before.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style import mesh
from t5x_style.models.layers.activations import ACTIVATIONS
from t5x_style.models.layers.linear import ExpertLinear, Linear, Product
from t5x_style.models.specs import DtypePolicy, MoeSpec

Losses = dict[str, jax.Array]  # [B] each, summed over layers: a row's own, 0 where it holds padding alone
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
        hidden = spec.mlp.hidden
        # Routing is decided in full precision (Fedus et al. 2022, section 2.4).
        exact = dataclasses.replace(policy, compute="float32")
        self.router = Linear(
            (embed_dim,), (spec.experts,), axes=("embed", None), policy=exact, rngs=rngs, stddev=stddev
        )

        def stack(inputs: int, outputs: int, axes: tuple[str, str], gain: float = 1.0) -> ExpertLinear:
            settings = {"axes": axes, "policy": policy, "rngs": rngs, "stddev": stddev, "gain": gain}
            return ExpertLinear(spec.experts, inputs, outputs, **settings)

        self.gate = stack(embed_dim, hidden, ("embed", "mlp")) if spec.mlp.gated else None
        self.up = stack(embed_dim, hidden, ("embed", "mlp"))
        self.down = stack(hidden, embed_dim, ("mlp", "embed"), output_gain)

    def __call__(self, x_BLD: jax.Array, segments_BL: jax.Array | None = None) -> tuple[jax.Array, Losses]:
        """[B, L, embed] -> ([B, L, embed], losses).

        Args:
          segments_BL: documents, 0 on padding, which takes no room and no part in the losses. None: one document.

        Returns:
          (hidden, losses [B]: of every row's own tokens, whatever other rows hold).
        """
        spec = self.spec
        logits_BLE = self.router(x_BLD)
        chosen = choose(logits_BLE, spec)
        segments_BL = jnp.ones(x_BLD.shape[:2], jnp.int32) if segments_BL is None else segments_BL
        counted_BL = (segments_BL != 0).astype(jnp.float32)
        dropped_B = jnp.zeros(x_BLD.shape[:1], jnp.float32)
        if spec.mode == "dropless":
            y_BLD = self._grouped(x_BLD, chosen)
        else:
            wants = wanted(chosen, counted_BL, spec.experts)
            taken = fitting_documents(wants, segments_BL, spec) if spec.per_document else fitting_rows(wants, spec)
            dropped_B = _row_mean(wants - taken, wants)
            if spec.per_document:
                kept_BLK = jnp.sum(taken, axis=-1).transpose(0, 2, 1)
                y_BLD = self._grouped(x_BLD, chosen._replace(weights=chosen.weights * kept_BLK))
            else:
                y_BLD = self._dispatched(x_BLD, chosen, wants, taken)
        losses = {
            "moe_balance": spec.balance_weight * balance_loss(chosen, counted_BL),
            "moe_z": spec.z_weight * z_loss(logits_BLE, counted_BL),
            "moe_dropped": dropped_B,
        }
        losses = {name: mesh.constrain(loss_B, ("act_batch",)) for name, loss_B in losses.items()}
        return mesh.constrain(y_BLD, ("act_batch", "act_length", "act_embed")), losses

    def _experts(self) -> dict[str, ExpertLinear]:
        """The matrices by name; without "gate" where the feed-forward has none."""
        parts = {"gate": self.gate, "up": self.up, "down": self.down}
        return {name: part for name, part in parts.items() if part is not None}

    def _grouped(self, x_BLD: jax.Array, chosen: Choices) -> jax.Array:
        """Tokens sorted by expert, one grouped product a matrix, sorted back; each device groups its own tokens.

        Sorting mixes all tokens, so that XLA alone would gather them and every device would compute them all. Over the
        mesh axes that split the tokens the matrices are gathered once (those of `expert` included), and their gradient
        is added up once; how `tensor` splits the hidden size stays XLA's matter.
        """
        graphdef, state = nnx.split(self._experts())

        def local(state: Any, x_BLD: jax.Array, experts_BLK: jax.Array, weights_BLK: jax.Array) -> jax.Array:
            width, k = x_BLD.shape[-1], self.spec.top_k
            expert_of = experts_BLK.reshape(-1)  # [T * K]
            order = jnp.argsort(expert_of, stable=True)
            sizes = jnp.bincount(expert_of, length=self.spec.experts)
            sorted_x = x_BLD.reshape(-1, width)[order // k]
            experts = nnx.merge(graphdef, state)
            sorted_y = feed_forward(experts, self.spec, sorted_x, lambda x, w: jax.lax.ragged_dot(x, w, sizes))
            y_TKD = sorted_y[jnp.argsort(order)].reshape(-1, k, width)
            weights_TK = weights_BLK.reshape(-1, k).astype(y_TKD.dtype)
            return jnp.einsum("TKD,TK->TD", y_TKD, weights_TK).reshape(x_BLD.shape)

        if mesh.is_split() and jax.default_backend() != "cpu":  # whose compiler stops at sums of bfloat16 over devices
            state = jax.tree.map_with_path(self._cast, state)
        return mesh.map_tokens(local, state, x_BLD, chosen.experts, chosen.weights)

    def _cast(self, path: Any, leaf: jax.Array) -> jax.Array:
        """A kernel in the compute dtype, as Linear.weight begins: half the bytes to gather, no copy to keep."""
        kernel = any(getattr(key, "key", None) == "kernel" for key in path)
        return (
            leaf.astype(self.policy.dtype("compute")) if kernel and jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        )

    def _dispatched(self, x_BLD: jax.Array, chosen: Choices, wants: jax.Array, taken: jax.Array) -> jax.Array:
        """Tokens laid out in a buffer [B, E, C, D], one batched product a matrix, laid back."""
        room = row_room(self.spec, x_BLD.shape[1])
        slot = jax.nn.one_hot(jnp.sum(places_in_rows(wants) * wants, axis=-1).astype(jnp.int32), room)  # [B, K, L, C]
        dispatch_BLEC = jnp.einsum("BKLE,BKLC->BLEC", taken, slot)
        weights_BKL = chosen.weights.transpose(0, 2, 1)
        combine_BLEC = jnp.einsum("BKLE,BKLC,BKL->BLEC", taken, slot, weights_BKL)
        dtype = self.policy.dtype("compute")
        x_BECD = jnp.einsum("BLEC,BLD->BECD", dispatch_BLEC.astype(dtype), x_BLD)
        y_BECD = feed_forward(
            self._experts(), self.spec, x_BECD, lambda x, kernels: jnp.einsum("BECD,EDM->BECM", x, kernels)
        )
        return jnp.einsum("BLEC,BECD->BLD", combine_BLEC.astype(dtype), y_BECD)


def feed_forward(experts: dict[str, ExpertLinear], spec: MoeSpec, x: jax.Array, product: Product) -> jax.Array:
    """[..., embed] -> [..., embed]; `product(x, kernels)` multiplies every token by its expert's matrix."""
    activation = ACTIVATIONS[spec.mlp.activation]
    up = experts["up"](x, product)
    hidden = activation(experts["gate"](x, product)) * up if "gate" in experts else activation(up)
    return experts["down"](hidden, product)


def choose(logits_BLE: jax.Array, spec: MoeSpec) -> Choices:
    """The router's decision.

    Worked example, two experts' logits [0, log 3], top_k 1: probabilities [.25, .75], expert 1; its weight is .75, or 1
    where `normalize` is set.
    """
    probabilities = jax.nn.softmax(logits_BLE.astype(jnp.float32), axis=-1)
    weights, experts = mesh.map_tokens(lambda _, p_BLE: tuple(jax.lax.top_k(p_BLE, spec.top_k)), (), probabilities)
    if spec.normalize:
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    return Choices(experts, weights, probabilities)


def wanted(chosen: Choices, counted_BL: jax.Array, experts: int) -> jax.Array:
    """[B, K, L, E] float32: 1 where a token that counts wants an expert, by the rank of the choice."""
    return jax.nn.one_hot(chosen.experts, experts).transpose(0, 2, 1, 3) * counted_BL[:, None, :, None]


def row_room(spec: MoeSpec, length: int) -> int:
    """Tokens of a row of `length` that an expert takes. Example: factor 1.25, top_k 2, length 8, 4 experts: 5."""
    share = -(-int(spec.capacity_factor * spec.top_k * length) // spec.experts)
    return max(1, min(length, share if spec.capacity is None else spec.capacity))


def places_in_rows(wants_BKLE: jax.Array) -> jax.Array:
    """[B, K, L, E]: how many wish for the expert before in the row, all first choices before all second ones."""
    flat = wants_BKLE.reshape(wants_BKLE.shape[0], -1, wants_BKLE.shape[-1])
    return (jnp.cumsum(flat, axis=1) - flat).reshape(wants_BKLE.shape)


def fitting_rows(wants_BKLE: jax.Array, spec: MoeSpec) -> jax.Array:
    """What of `wants` finds room where all of a row share it.

    Worked example, room 1, choices of expert 0 in documents [1, 1, 2]: wants [1, 1, 1] -> [1, 0, 0].
    """
    return wants_BKLE * (places_in_rows(wants_BKLE) < row_room(spec, wants_BKLE.shape[2]))


def fitting_documents(wants_BKLE: jax.Array, segments_BL: jax.Array, spec: MoeSpec) -> jax.Array:
    """What of `wants` finds room where every document has its own, by its own length.

    Worked example, room 1, choices of expert 0 in documents [1, 1, 2]: wants [1, 1, 1] -> [1, 0, 1].
    """
    same_BLS = (segments_BL[:, :, None] == segments_BL[:, None, :]).astype(jnp.float32)
    better = jnp.cumsum(wants_BKLE, axis=1) - wants_BKLE  # choices of higher rank, whatever their place
    place = jnp.einsum("BLS,BKSE->BKLE", same_BLS, better)
    place = place + jnp.einsum("BLS,BKSE->BKLE", jnp.tril(same_BLS, -1), wants_BKLE)
    lengths_BL = jnp.sum(same_BLS, axis=-1)
    share = jnp.ceil(jnp.floor(spec.capacity_factor * spec.top_k * lengths_BL) / spec.experts)
    room = jnp.maximum(share, 1) if spec.capacity is None else jnp.full_like(lengths_BL, spec.capacity)
    return wants_BKLE * (place < room[:, None, :, None])


def balance_loss(chosen: Choices, counted_BL: jax.Array) -> jax.Array:
    """[B]: E * sum over experts of (share of choices) * (mean probability); 1 when even.

    Fedus et al. 2022, equation 4. With several choices a token all of them count, divided by their number. Shares and
    means are over the counted tokens of one row, so that no other row changes them; the paper's and transformers' are
    over the whole batch.
    """
    experts = chosen.probabilities.shape[-1]
    total_B = jnp.maximum(jnp.sum(counted_BL, axis=1), 1)
    picks = jnp.mean(jax.nn.one_hot(chosen.experts, experts), axis=2)  # [B, L, E]
    share_BE = jnp.einsum("BLE,BL->BE", picks, counted_BL) / total_B[:, None]
    mean_BE = jnp.einsum("BLE,BL->BE", chosen.probabilities, counted_BL) / total_B[:, None]
    return experts * jnp.sum(share_BE * mean_BE, axis=-1)


def z_loss(logits_BLE: jax.Array, counted_BL: jax.Array) -> jax.Array:
    """[B]: mean square of the router's log-normalizer over the counted tokens (Zoph et al. 2022, equation 5)."""
    normalizer = jax.nn.logsumexp(logits_BLE.astype(jnp.float32), axis=-1)
    return _row_mean(jnp.square(normalizer) * counted_BL, counted_BL)


def _row_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """[B, ...], [B, ...] -> [B]: sum of values over sum of weights (whole numbers), 0 where no weight is."""
    axes = tuple(range(1, values.ndim))
    return jnp.sum(values, axes) / jnp.maximum(jnp.sum(weights, axes), 1)
