"""The weights of a Hugging Face folder as our parameters, one after the other, straight into a sharded model.

Memory of the host: one parameter (the stack of all layers) and one tensor at a time, never a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style import mesh as meshes
from t5x_style import models
from t5x_style.errors import UserError
from t5x_style.huggingface import weight_map
from t5x_style.huggingface.folder import Folder
from t5x_style.huggingface.safetensors_files import StoredTensor
from t5x_style.huggingface.weight_map import Stacked, WeightMap
from t5x_style.models.config import FLOAT32, DtypePolicy
from t5x_style.training import checkpoints, parameters


def groups(mapping: WeightMap) -> list[WeightMap]:
    """The map in parts that share no parameter: all layers of one stack, or of the stacks of a fused tensor."""
    found: dict[tuple[str, ...], list[Stacked]] = {}
    for rule, row in [(rule, None) for rule in mapping.whole] + [(held.rule, held.row) for held in mapping.layers]:
        found.setdefault(rule.ours, []).append(Stacked(rule, row))
    return [WeightMap((), rules) for rules in found.values()]


def read_parameters(
    folder: Folder, shapes: Mapping[str, tuple[int, ...]], advance: Callable[[], Any] | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """(path, value) of every parameter, in the dtype of the files (the widest where layers differ).

    Args:
      folder: an opened folder. shapes: of all parameters of the model, by path.
      advance: called after every tensor.

    Raises:
      UserError: the files change or end while they are read.
    """
    mapped = {path for rule, _ in folder.mapping.rules() for path in rule.ours}
    assert mapped == set(shapes), sorted(mapped ^ set(shapes))
    for group in groups(folder.mapping):
        rules = [rule for rule, _ in group.rules()]
        dtype = jnp.result_type(*{folder.tensors[rule.theirs].dtype for rule in rules})
        readers = {rule.theirs: _reader(folder.tensors[rule.theirs], dtype, advance) for rule in rules}
        yield from weight_map.read(readers, group, shapes, str(folder.path))


def _reader(tensor: StoredTensor, dtype: np.dtype, advance: Callable[[], Any] | None) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        value = tensor.read().astype(dtype, copy=False)
        if advance is not None:
            advance()
        return value

    return read


def load_params(folder: Folder, abstract: parameters.Params) -> parameters.Params:
    """Reads the weights into the dtypes and shardings of `abstract`.

    Every parameter is given to the devices, slice by slice, before the next is read.

    Args:
      folder: opened for the model of `abstract`. abstract: ShapeDtypeStructs with shardings.

    Returns:
      Arrays in the tree of `abstract`, bit-equal on any mesh.
    """
    leaves = parameters.flat(abstract)
    placed: dict[str, jax.Array] = {}
    for path, value in read_parameters(folder, {name: leaf.shape for name, leaf in leaves.items()}):
        placed[path] = _place(value, leaves[path])
        del value
    return nested(placed)


def _place(value: np.ndarray, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Gives every device its slice; ready when it returns, so that the host's copy can go."""

    def piece(index: Any) -> np.ndarray:
        return np.array(value[index], dtype=leaf.dtype, order="C")

    return jax.block_until_ready(jax.make_array_from_callback(leaf.shape, leaf.sharding, piece, dtype=leaf.dtype))


def load_sharded(folder: Folder, resolver: meshes.Resolver, policy: DtypePolicy = FLOAT32) -> parameters.Params:
    """The parameters of `folder.config` on a mesh, as training and `parameters.merge` take them.

    Args:
      folder: an opened folder. resolver: mesh and sharding tables. policy: its `params` is their dtype.
    """
    _, state, shapes = parameters.split(models.abstract(folder.config, policy))
    shardings = parameters.shardings(shapes, parameters.logical_axes(state), resolver, "parameters")
    return load_params(folder, checkpoints.with_shardings(shapes, shardings))


def abstract_parameters(config: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of all parameters of a model, by path."""
    return parameters.flat(parameters.split(models.abstract(config))[2])


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Paths as nested dicts. Example: {"a/b": 1, "a/c": 2} -> {"a": {"b": 1, "c": 2}}."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        if name in node:
            raise UserError(f"parameter {path} comes twice")
        node[name] = value
    return tree
