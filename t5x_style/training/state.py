"""The training state: a plain pytree, made sharded from the start and donated to every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5x_style import mesh as meshes
from t5x_style.checkpoints import parameters
from t5x_style.training.extras import Extra
from t5x_style.training.guard import Guard

Arrays = dict[str, jax.Array]  # flat names, MODEL/PATH
_POLICY = "policy/"


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """All that a step reads and writes; what is frozen is an argument of its own.

    Attributes:
      step: int32 [], optimizer steps done. trainable: arrays by flat name. optimizer: optax state, float32.
      guard: see Guard. extra: the values of TrainRun.extras by name.
    """

    step: jax.Array
    trainable: Arrays
    optimizer: Any
    guard: Guard
    extra: dict[str, Any]

    def items(self) -> dict[str, Any]:
        """What a checkpoint holds, an item a folder, arrays in nested dicts.

        {"params": the policy's, "params_NAME": another model's, "optimizer", "extra": {"step", "guard"}, "extra_NAME"}
        """
        names = list(self.trainable)
        by_model: dict[str, Arrays] = {}
        for name, array in self.trainable.items():
            model, path = name.split("/", 1)
            by_model.setdefault(model, {})[path] = array
        items = {_item(model): parameters.nested(arrays) for model, arrays in by_model.items()}
        items["optimizer"] = _nested(self.optimizer, names)
        items["extra"] = {"step": self.step, "guard": self.guard}
        # A value may be a single array, which cannot be an item of its own.
        return items | {f"extra_{name}": {"value": _nested(value, names)} for name, value in self.extra.items()}

    @classmethod
    def of_items(cls, items: Mapping[str, Any], names: list[str], extras: Mapping[str, Extra]) -> TrainState:
        """The state that `items` came from; extras that are missing start from the parameters.

        Args:
          names: the flat names of all that trains. extras: of the run.
        """
        models = dict.fromkeys(name.split("/", 1)[0] for name in names)
        trainable = {
            f"{model}/{path}": array for model in models for path, array in parameters.flat(items[_item(model)]).items()
        }
        trainable = {name: trainable[name] for name in names}
        extra = {
            name: _flat(items[f"extra_{name}"]["value"], names) if f"extra_{name}" in items else rule.init(trainable)
            for name, rule in extras.items()
        }
        optimizer = _flat(items["optimizer"], names)
        return cls(items["extra"]["step"], trainable, optimizer, items["extra"]["guard"], extra)


def fresh(trainable: Arrays, optimizer: optax.GradientTransformation, extras: Mapping[str, Extra]) -> TrainState:
    """The state at step 0."""
    extra = {name: rule.init(trainable) for name, rule in extras.items()}
    return TrainState(jnp.int32(0), trainable, optimizer.init(float32(trainable)), Guard.fresh(), extra)


def float32(arrays: Arrays) -> Arrays:
    """What the optimizer works on: float32, whatever the parameters' format is."""
    return jax.tree.map(lambda array: array.astype(jnp.float32), arrays)


def state_shardings(
    abstract: TrainState, axes: Mapping[str, tuple[str | None, ...]], resolver: meshes.Resolver
) -> TrainState:
    """A TrainState of NamedShardings: an array that is named and shaped like a parameter follows the parameter's table.

    In the optimizer's state by the table of optimizers, in extras by that of parameters; all else is replicated.
    """
    replicated = resolver.replicate()
    tables = {
        table: parameters.shardings(abstract.trainable, dict(axes), resolver, table)
        for table in ("parameters", "optimizer")
    }

    def like(table: str) -> Callable[[tuple, Any], Any]:
        def one(path: tuple, leaf: Any) -> Any:
            names = (str(getattr(key, "key", "")) for key in reversed(path))
            name = next((name for name in names if name in abstract.trainable), None)
            if name is None or abstract.trainable[name].shape != leaf.shape:
                return replicated
            return tables[table][name]

        return one

    return TrainState(
        step=replicated,
        trainable=tables["parameters"],
        optimizer=jax.tree_util.tree_map_with_path(like("optimizer"), abstract.optimizer),
        guard=jax.tree.map(lambda _: replicated, abstract.guard),
        extra=jax.tree_util.tree_map_with_path(like("parameters"), abstract.extra),
    )


def _item(model: str) -> str:
    return "params" if f"{model}/" == _POLICY else f"params_{model}"


def _nested(tree: Any, names: list[str]) -> Any:
    """Every dict by flat names becomes nested ones; without "policy" where nothing else trains."""
    alone = all(name.startswith(_POLICY) for name in names)
    known = set(names)

    def convert(node: Any) -> Any:
        if not _is_by_name(node, known):
            return node
        return parameters.nested({name.removeprefix(_POLICY) if alone else name: leaf for name, leaf in node.items()})

    return jax.tree.map(convert, tree, is_leaf=lambda node: _is_by_name(node, known))


def _flat(tree: Any, names: list[str]) -> Any:
    """The inverse of `_nested`."""
    alone = all(name.startswith(_POLICY) for name in names)
    known = {name.removeprefix(_POLICY) if alone else name for name in names}

    def is_nested(node: Any) -> bool:
        return isinstance(node, dict) and set(parameters.flat(node)) == known

    def convert(node: Any) -> Any:
        if not is_nested(node):
            return node
        flat = parameters.flat(node)
        return {name: flat[name.removeprefix(_POLICY) if alone else name] for name in names}

    return jax.tree.map(convert, tree, is_leaf=is_nested)


def _is_by_name(node: Any, names: set[str]) -> bool:
    return isinstance(node, dict) and set(node) == names
