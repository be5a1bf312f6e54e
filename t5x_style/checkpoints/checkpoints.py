"""Checkpoints: MODEL_DIR/checkpoints/<step>/{items of the state, loader, metadata}, written by Orbax.

Saves are asynchronous and become visible by one rename; a killed save leaves nothing that looks like a checkpoint.
Restores take the shardings of the run that restores, so the mesh may differ from the one that saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from t5x_style.checkpoints.parameters import Params
from t5x_style.errors import UserError

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of one MODEL_DIR.

    Args:
      model_dir: the run's folder.
      keep: the newest that are kept.
    """

    def __init__(self, model_dir: str | Path, keep: int = 2):
        self._folder = Path(model_dir).absolute() / FOLDER
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest(self) -> int | None:
        """The newest complete step, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, items: Mapping[str, Any], loader: dict, metadata: dict) -> None:
        """Starts a save of `items` and the loader's position; returns once the arrays are copied off the devices.

        A step that is already saved is left alone.

        Args:
          items: the parts of the state, each a tree of arrays and a folder of its own.
        """
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
                loader=ocp.args.JsonSave(loader),
                metadata=ocp.args.JsonSave(metadata),
            ),
        )

    def restore(self, step: int, abstract: Mapping[str, Any]) -> tuple[dict[str, Any], dict, dict]:
        """Reads a checkpoint into the shardings of `abstract` (items of ShapeDtypeStructs with shardings).

        Returns:
          (the items, the loader's state, the metadata).

        Raises:
          UserError: its arrays do not fit the configured model or optimizer.
        """
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()},
                    loader=ocp.args.JsonRestore(),
                    metadata=ocp.args.JsonRestore(),
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {self._folder / str(step)} does not fit this configuration ({_first_line(error)}); "
                "use another MODEL_DIR, or the configuration it was made with"
            ) from error
        return {name: found[name] for name in abstract}, found.loader, found.metadata

    def wait(self) -> None:
        """Returns when every save that was started is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for running saves and frees the manager's threads."""
        self._manager.wait_until_finished()
        self._manager.close()


def steps(model_dir: str | Path) -> list[int]:
    """The complete checkpoints of a MODEL_DIR, oldest first, read from folder names."""
    folder = Path(model_dir) / FOLDER
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and (path / "params").exists())


def load_params(model_dir: str | Path, abstract: Params, step: int | None = None) -> tuple[Params, int]:
    """Reads only the parameters of a MODEL_DIR, for evaluation or to start another run from.

    Args:
      model_dir: the folder. abstract: ShapeDtypeStructs with shardings. step: None for the newest.

    Returns:
      (the parameters, the step they are from).

    Raises:
      UserError: there is no such checkpoint, or its arrays do not fit.
    """
    known = steps(model_dir)
    if not known:
        raise UserError(f"{model_dir} holds no finished checkpoint; train it first, or correct the path")
    chosen = known[-1] if step is None else step
    if chosen not in known:
        raise UserError(f"{model_dir} holds no checkpoint of step {chosen}; it has {', '.join(map(str, known))}")
    path = Path(model_dir).absolute() / FOLDER / str(chosen) / "params"
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(path, abstract), chosen
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} does not fit the model in model.json ({_first_line(error)})") from error


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """ShapeDtypeStructs that carry the shardings of the second tree."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
