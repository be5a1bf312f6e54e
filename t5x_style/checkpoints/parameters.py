"""Between NNX modules and the plain trees of arrays that optax, jit and checkpoints work on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from flax.traverse_util import flatten_dict

from t5x_style import mesh as meshes
from t5x_style.errors import UserError

Params = dict[str, Any]


def split(model: nnx.Module) -> tuple[nnx.GraphDef, nnx.State, Params]:
    """(static structure, its state with metadata, the parameters as nested dicts of arrays)."""
    graphdef, state = nnx.split(model)
    return graphdef, state, _text_keys(nnx.to_pure_dict(state))


def merge(graphdef: nnx.GraphDef, state: nnx.State, params: Params) -> nnx.Module:
    """The module with `params` in it; `state` gives the variable types (its own values are not used)."""
    filled = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(filled, nnx.restore_int_paths(params))
    return nnx.merge(graphdef, filled)


def logical_axes(state: nnx.State) -> dict[str, Any]:
    """The logical axis names of every parameter, in the shape of the parameters' nested dicts.

    Raises:
      ValueError: a parameter has no names (a mistake in a layer).
    """

    def names(variable: nnx.Variable) -> tuple[str | None, ...]:
        metadata = variable.get_metadata()
        axes = metadata.get("out_sharding") or metadata.get("sharding_names") or metadata.get("sharding")
        if not axes or len(axes) != len(variable.get_value().shape):
            raise ValueError(f"parameter of shape {variable.get_value().shape} has logical axes {axes}")
        return tuple(axes)

    pure = jax.tree.map(names, state, is_leaf=lambda leaf: isinstance(leaf, nnx.Variable))
    return _text_keys(nnx.to_pure_dict(pure))


def flat_axes(state: nnx.State) -> dict[str, tuple[str | None, ...]]:
    """`logical_axes` by `/`-joined names."""
    return flat(logical_axes(state))


def _text_keys(tree: Any) -> Any:
    """List positions become text, so that a tree has the same names in memory and in a checkpoint."""
    return {str(key): _text_keys(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def flat(tree: Params) -> dict[str, Any]:
    """Nested dicts as one dict with `/`-joined names."""
    return {"/".join(map(str, path)): leaf for path, leaf in flatten_dict(tree).items()}


def nested(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as nested dicts. Example: {"a/b": 1, "a/c": 2} -> {"a": {"b": 1, "c": 2}}."""
    tree: dict[str, Any] = {}
    for path, value in paths.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        if name in node:
            raise UserError(f"parameter {path} comes twice")
        node[name] = value
    return tree


def shardings(abstract: Params, axes: dict[str, Any], resolver: meshes.Resolver, table: str) -> Params:
    """A tree of NamedShardings for `abstract` parameters (nested, or flat with `axes` alike) by one of the tables."""
    names = flat(axes)

    def one(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.sharding.NamedSharding:
        name = "/".join(str(getattr(key, "key", key)) for key in path)
        return resolver.sharding(leaf.shape, names[name], table, name)

    return jax.tree_util.tree_map_with_path(one, abstract)
