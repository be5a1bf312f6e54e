"""The trunk: groups of repeated layer patterns, stored stacked, run by a scan or unrolled.

Each pattern position is one Block whose parameters carry a leading `layers` axis (none when the group shares
weights). Checkpoints always have this layout; how the trunk runs is the matter of an Execution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t5x_style.models import randomness
from t5x_style.models.layers.attention import AttentionFacts, LayerCache
from t5x_style.models.layers.block import Block
from t5x_style.models.layers.moe import LOSS_NAMES, Losses
from t5x_style.models.layers.positions.distance_bias import RelativeBias
from t5x_style.models.specs import DtypePolicy, Execution, LayerGroup, LayerSpec, MoeSpec, TransformerConfig

Carry = tuple[jax.Array, Losses]  # what goes from layer to layer
LAYERS = "layers"  # logical name of the stacking axis

_REMAT_POLICIES: dict[str, Any] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class TrunkLayerGroup(nnx.Module):
    """One layer group: `layers[i]` is the stack of pattern position i."""

    def __init__(self, group: LayerGroup, make_block: Callable[[LayerSpec, nnx.Rngs], Block], *, rngs: nnx.Rngs):
        self.group = group

        def stacked(spec: LayerSpec) -> Block:
            if group.shared:
                return make_block(spec, rngs)
            build = nnx.vmap(lambda r: make_block(spec, r), transform_metadata={nnx.PARTITION_NAME: LAYERS})
            return build(rngs.fork(split=group.repeats))

        self.layers = nnx.List([stacked(spec) for spec in group.pattern])

    @property
    def size(self) -> int:
        """Number of layers."""
        return self.group.repeats * len(self.layers)

    def run(
        self, x_BLD: jax.Array, facts: AttentionFacts, execution: Execution, first: int
    ) -> tuple[jax.Array, Losses]:
        """[B, L, embed] -> ([B, L, embed], the routers' losses [B] added up) through every layer, without a cache.

        Args:
          first: the number of this group's first layer in the trunk.
        """
        split = [nnx.split(block) for block in self.layers]
        scanned = execution.scan and self.group.repeats > 1
        applied = [_layer_function(graphdef, facts, execution.remat, scanned) for graphdef, _ in split]
        states = tuple(state for _, state in split)

        def body(carry: Carry, row: tuple[Sequence[Any] | None, int | jax.Array]) -> tuple[Carry, None]:
            (x_BLD, losses), (slices, number) = carry, row
            for position, (apply, state) in enumerate(zip(applied, states if slices is None else slices)):
                x_BLD, own = apply(state, x_BLD, number + position)
                losses = add_losses(losses, own)
            return (x_BLD, losses), None

        carry: Carry = x_BLD, no_losses(self.group.pattern, x_BLD.shape[0])
        numbers = range(first, first + self.size, len(applied))
        if scanned:
            return jax.lax.scan(body, carry, (None if self.group.shared else states, jnp.asarray(numbers)))[0]
        rows = [None] * self.group.repeats if self.group.shared else unstack(states, self.group.repeats)
        for row in zip(rows, numbers):
            carry, _ = body(carry, row)
        return carry

    def blocks(self) -> Iterator[Block]:
        """Every layer as a Block of its own, in the order they run (slices of the stacks)."""
        split = [nnx.split(block) for block in self.layers]
        states = tuple(state for _, state in split)
        rows = [states] * self.group.repeats if self.group.shared else unstack(states, self.group.repeats)
        for row in rows:
            for (graphdef, _), state in zip(split, row):
                yield nnx.merge(graphdef, state)


class UnstackedLayerGroup(nnx.Module):
    """A layer group whose layers are separate modules: what decoding runs (see decoding.prepare)."""

    def __init__(self, group: TrunkLayerGroup):
        self.layers = nnx.List(list(group.blocks()))

    def blocks(self) -> Iterator[Block]:
        """Every layer, in the order they run."""
        return iter(self.layers)

    @property
    def size(self) -> int:
        """Number of layers."""
        return len(self.layers)

    def run(
        self, x_BLD: jax.Array, facts: AttentionFacts, execution: Execution, first: int
    ) -> tuple[jax.Array, Losses]:
        """As TrunkLayerGroup.run; always unrolled, and nothing is recomputed: this form is for inference."""
        del execution
        losses: Losses = {}
        for number, block in enumerate(self.layers, first):
            with randomness.layer(number):
                x_BLD, _, own = block(x_BLD, facts)
            losses = add_losses(losses, own)
        return x_BLD, losses


def block_options(config: TransformerConfig) -> dict[str, Any]:
    """Arguments of a block: how its kernels are drawn, what is dropped in it."""
    gain = (2 * len(config.layers)) ** -0.5 if config.init.depth_scaled else 1.0
    return {"stddev": config.init.stddev, "output_gain": gain, "dropout": config.dropout}


class Trunk(nnx.Module):
    """All layer groups, in order."""

    def __init__(self, config: TransformerConfig, *, policy: DtypePolicy, rngs: nnx.Rngs, execution: Execution):
        def make_block(spec: LayerSpec, layer_rngs: nnx.Rngs) -> Block:
            return Block(spec, config.embed_dim, policy=policy, rngs=layer_rngs, **block_options(config))

        self.execution = execution
        self.segments = nnx.List([TrunkLayerGroup(group, make_block, rngs=rngs) for group in config.segments])
        heads, bias = config.layers[0].attention.heads, config.relative_bias
        stddev = config.embed_dim**-0.5 if config.init.stddev is None else config.init.stddev
        self.relative_bias = (
            None if bias is None else RelativeBias(bias, heads, policy=policy, rngs=rngs, stddev=stddev)
        )

    def __call__(
        self,
        x_BLD: jax.Array,
        facts: AttentionFacts,
        caches: Sequence[LayerCache] | None = None,
        crossed: Sequence[LayerCache] | None = None,
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None, Losses]:
        """[B, L, embed] -> ([B, L, embed], updated caches, one a layer, or None, the routers' losses [B] added up).

        Args:
          crossed: the encoder's keys and values, one pair a layer, for decoding with an encoder.
        """
        bias = None if self.relative_bias is None else self.relative_bias.bias()
        facts = dataclasses.replace(facts, bias=bias, attention=self.execution.attention)
        losses: Losses = {}
        if caches is None:
            first = 0
            for group in self.segments:
                x_BLD, own = group.run(x_BLD, facts, self.execution, first)
                losses = add_losses(losses, own)
                first += group.size
            return x_BLD, None, losses
        written: list[LayerCache] = []
        for index, (block, cache) in enumerate(zip(self.blocks(), caches, strict=True)):
            x_BLD, new, own = block(x_BLD, facts, cache, None if crossed is None else crossed[index])
            losses = add_losses(losses, own)
            assert new is not None
            written.append(new)
        return x_BLD, tuple(written), losses

    def blocks(self) -> Iterator[Block]:
        """Every layer, in the order they run."""
        return (block for group in self.segments for block in group.blocks())


def no_losses(layers: Sequence[LayerSpec], rows: int) -> Losses:
    """Zeros [rows] for every loss that routers among `layers` give; {} without experts."""
    if not any(isinstance(layer.mlp, MoeSpec) for layer in layers):
        return {}
    return {name: jnp.zeros(rows, jnp.float32) for name in LOSS_NAMES}


def add_losses(one: Losses, other: Losses) -> Losses:
    """Adds what both have; a layer without experts adds nothing."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


def _layer_function(
    graphdef: Any, facts: AttentionFacts, remat: str, scanned: bool
) -> Callable[[Any, jax.Array, int | jax.Array], tuple[jax.Array, Losses]]:
    def apply(state: Any, x_BLD: jax.Array, number: int | jax.Array) -> tuple[jax.Array, Losses]:
        with randomness.layer(number):
            x_BLD, _, losses = nnx.merge(graphdef, state)(x_BLD, facts)
        return x_BLD, losses

    return rematerialised(apply, remat, scanned)


def rematerialised(apply: Callable, remat: str, scanned: bool) -> Callable:
    """`apply`, whose backward pass recomputes what Execution.remat says; `scanned`: it runs inside a scan."""
    if remat == "none":
        return apply
    # Inside a scan the loop itself keeps XLA from undoing the recomputation; the barrier would only cost time.
    return jax.checkpoint(apply, policy=_REMAT_POLICIES[remat], prevent_cse=not scanned)


def unstack(tree: Any, repeats: int) -> list[Any]:
    """Splits every array along its leading axis into `repeats` trees without that axis.

    The gradient of lax.split is one concatenation; indexing would add up `repeats` zero-padded stacks.
    """
    leaves, structure = jax.tree.flatten(tree)
    pieces = [jax.lax.split(leaf, (1,) * repeats, axis=0) for leaf in leaves]
    return [
        jax.tree.unflatten(structure, [jax.lax.squeeze(piece[row], (0,)) for piece in pieces]) for row in range(repeats)
    ]
