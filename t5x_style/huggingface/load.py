"""The weights of a Hugging Face folder as our parameters, one after the other, straight into a sharded model.

Memory of the host: one parameter (the stack of all layers) and one tensor at a time, never a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from t5x_style import mesh as meshes
from t5x_style import models
from t5x_style.checkpoints import checkpoints, parameters
from t5x_style.errors import UserError
from t5x_style.huggingface.folder import Folder
from t5x_style.huggingface.weights import weight_map
from t5x_style.huggingface.weights.layouts import Fused
from t5x_style.huggingface.weights.safetensors_files import StoredTensor
from t5x_style.huggingface.weights.weight_map import Stacked, WeightMap
from t5x_style.models.specs import FLOAT32, DtypePolicy


def groups(mapping: WeightMap) -> list[WeightMap]:
    """The map in parts that share no parameter: all layers of one stack, or of the stacks of a fused tensor."""
    found: dict[tuple[str, ...], list[Stacked]] = {}
    for rule, row in [(rule, None) for rule in mapping.outside] + [(held.rule, held.row) for held in mapping.layers]:
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
        yield from weight_map.read(_readers(folder, group, advance), group, shapes, str(folder.path))


def read_pieces(
    folder: Folder, advance: Callable[[], Any] | None = None
) -> Iterator[tuple[str, tuple[int, ...], np.ndarray]]:
    """(path, place, value) of every piece of every parameter: what `read_parameters` stacks, one tensor in memory.

    A place is (), (layer,), (expert,) or (layer, expert); parameters come one behind the other.
    """
    for group in groups(folder.mapping):
        readers = _readers(folder, group, advance)
        for rule, place in group.rules():
            value = readers[rule.theirs]()
            pieces = rule.layout.read(value) if isinstance(rule.layout, Fused) else [rule.layout.read(value)]
            for path, piece in zip(rule.ours, pieces, strict=True):
                yield path, place, piece


def dtypes(folder: Folder) -> dict[str, np.dtype]:
    """The dtype of every parameter: the widest of its tensors."""
    found: dict[str, np.dtype] = {}
    for group in groups(folder.mapping):
        found |= dict.fromkeys((path for rule, _ in group.rules() for path in rule.ours), _dtype(folder, group))
    return found


def _dtype(folder: Folder, group: WeightMap) -> np.dtype:
    return jnp.result_type(*{folder.tensors[rule.theirs].dtype for rule, _ in group.rules()})


def _readers(
    folder: Folder, group: WeightMap, advance: Callable[[], Any] | None
) -> dict[str, Callable[[], np.ndarray]]:
    dtype, names = _dtype(folder, group), [rule.theirs for rule, _ in group.rules()]
    return {name: _reader(folder.tensors[name], dtype, advance) for name in names}


def _reader(tensor: StoredTensor, dtype: np.dtype, advance: Callable[[], Any] | None) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        value = tensor.read().astype(dtype, copy=False)
        if advance is not None:
            advance()
        return value

    return read


def load_params(
    folder: Folder, abstract: parameters.Params, missing: Literal["error", "init"] = "error"
) -> parameters.Params:
    """Reads the weights into the dtypes and shardings of `abstract`.

    Every parameter is given to the devices, slice by slice, before the next is read.

    Args:
      folder: opened for the model of `abstract`. abstract: ShapeDtypeStructs with shardings.
      missing: what the folder does not hold is an error, or is left out of the result, for the caller to initialise.

    Returns:
      Arrays in the tree of `abstract`, bit-equal on any mesh.

    Raises:
      UserError: an array is missing, or has another shape than `abstract` says.
    """
    leaves = parameters.flat(abstract)
    shapes = {name: leaf.shape for name, leaf in abstract_parameters(folder.config).items()}
    if missing == "error" and (lacking := sorted(set(leaves) - set(shapes))):
        raise UserError(f"{folder.path} has no {lacking[0]}; it holds another model")
    for path in shapes.keys() & leaves.keys():
        if shapes[path] != leaves[path].shape:
            raise UserError(f"{folder.path}: {path} has shape {shapes[path]}, the model needs {leaves[path].shape}")
    placed: dict[str, jax.Array] = {}
    for path, value in read_parameters(folder, shapes):
        if path in leaves:
            placed[path] = _place(value, leaves[path])
        del value
    return parameters.nested(placed)


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
