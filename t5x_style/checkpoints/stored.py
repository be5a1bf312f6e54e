"""One tree of arrays on disk as Orbax wrote it: which arrays it has, and some of them read into shardings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from t5x_style import files
from t5x_style.checkpoints.parameters import flat, nested
from t5x_style.errors import UserError


def orbax_path(path: str | Path) -> str:
    """What Orbax wants of a local path. A URL stays as it is: Path("gs://b") is gs:/b below the working directory."""
    text = files.path_of(path)
    return text if files.is_remote(text) else os.path.abspath(text)


def shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    """The shape of every array, by its `/`-joined name.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            tree = checkpointer.metadata(orbax_path(path)).item_metadata.tree
        return {name: tuple(leaf.shape) for name, leaf in flat(dict(tree)).items()}
    except (ValueError, KeyError, AttributeError, OSError, TypeError) as error:
        raise UserError(f"{path} is no readable checkpoint ({first_line(error)}); copy it again") from error


def read(path: str | Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads some arrays, by their names, into the shardings and dtypes of `wanted`.

    Raises:
      UserError: one is missing, has another shape, or cannot be read.
    """
    if not wanted:
        return {}
    held = shapes(path)
    for name, leaf in wanted.items():
        if name not in held:
            raise UserError(f"{path} has no array {name}; it is of another model")
        if held[name] != leaf.shape:
            raise UserError(f"{path}: {name} has shape {held[name]}, the model needs {leaf.shape}")
    tree = nested(wanted)
    arguments: Any = ocp.args.PyTreeRestore(
        item=tree, restore_args=ocp.checkpoint_utils.construct_restore_args(tree), partial_restore=True
    )
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            return flat(checkpointer.restore(orbax_path(path), args=arguments))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}); copy it again") from error


def write(path: str | Path, arrays: Mapping[str, jax.Array]) -> None:
    """Writes arrays by their names; whole or not at all."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(orbax_path(path), nested(arrays), force=True)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
