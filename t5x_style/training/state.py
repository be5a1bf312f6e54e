"""The training state: a plain pytree, made sharded from the start and donated to every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style import mesh as meshes
from t5x_style.checkpoints import parameters

Params = parameters.Params


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Guard:
    """Counters of the step's own protection against bad updates.

    Attributes:
      skipped: int32 [], updates left out so far. streak: int32 [], of these the latest in a row.
      norm_average: float32 [], running mean of the gradient norms of good steps.
      good: int32 [], steps that went into `norm_average`.
    """

    skipped: jax.Array
    streak: jax.Array
    norm_average: jax.Array
    good: jax.Array

    @classmethod
    def fresh(cls) -> Guard:
        """All counters at zero."""
        return cls(jnp.int32(0), jnp.int32(0), jnp.float32(0), jnp.int32(0))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """All that a step reads and writes.

    Attributes:
      step: int32 [], optimizer steps done. params: nested dicts of arrays. optimizer: optax state.
      guard: see Guard.
    """

    step: jax.Array
    params: Params
    optimizer: Any
    guard: Guard

    def items(self) -> dict[str, Any]:
        """What a checkpoint holds, an item a folder: {"params", "optimizer", "extra": {"step", "guard"}}."""
        extra = {"step": self.step, "guard": self.guard}
        return {"params": self.params, "optimizer": self.optimizer, "extra": extra}

    @classmethod
    def of_items(cls, items: Mapping[str, Any]) -> TrainState:
        """The state that `items` came from."""
        return cls(items["extra"]["step"], items["params"], items["optimizer"], items["extra"]["guard"])


def fresh(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state at step 0."""
    return TrainState(jnp.int32(0), params, optimizer.init(params), Guard.fresh())


def optimizer_shardings(
    abstract_optimizer: Any,
    optimizer: optax.GradientTransformation,
    abstract_params: Params,
    axes: dict[str, Any],
    resolver: meshes.Resolver,
) -> Any:
    """Shardings of the optax state: arrays shaped like their parameter follow its table, others are replicated."""
    like_params = parameters.shardings(abstract_params, axes, resolver, "optimizer")

    def one(leaf: Any, sharding: jax.sharding.NamedSharding, parameter: jax.ShapeDtypeStruct) -> Any:
        return sharding if leaf.shape == parameter.shape else resolver.replicate()

    return optax.tree.map_params(
        optimizer,
        one,
        abstract_optimizer,
        like_params,
        abstract_params,
        transform_non_params=lambda _: resolver.replicate(),
    )


def state_shardings(
    abstract: TrainState, optimizer: optax.GradientTransformation, axes: dict[str, Any], resolver: meshes.Resolver
) -> TrainState:
    """A TrainState of NamedShardings."""
    replicated = resolver.replicate()
    return TrainState(
        step=replicated,
        params=parameters.shardings(abstract.params, axes, resolver, "parameters"),
        optimizer=optimizer_shardings(abstract.optimizer, optimizer, abstract.params, axes, resolver),
        guard=jax.tree.map(lambda _: replicated, abstract.guard),
    )
