"""Checkpoints: MODEL_DIR/checkpoints/<step>/{items of the state, loader, metadata}, written by Orbax.

Saves are asynchronous and become visible by one rename; a killed save leaves nothing that looks like a checkpoint.
Restores take the shardings of the run that restores, so the mesh may differ from the one that saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp

from t5x_style.checkpoints import stored
from t5x_style.checkpoints.parameters import Params, flat, nested
from t5x_style.checkpoints.stored import first_line
from t5x_style.errors import UserError

FOLDER = "checkpoints"
FROZEN = "frozen"  # MODEL_DIR/frozen: what of the policy does not train, written once
PARAMS = "params"


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
          (those of the items that it has, the loader's state, the metadata).

        Raises:
          UserError: its arrays do not fit the configured model or optimizer.
        """
        held = {path.name for path in (self._folder / str(step)).iterdir()}
        wanted = {name: tree for name, tree in abstract.items() if name in held}
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()},
                    loader=ocp.args.JsonRestore(),
                    metadata=ocp.args.JsonRestore(),
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"checkpoint {self._folder / str(step)} does not fit this configuration ({first_line(error)}); "
                "use another MODEL_DIR, or the configuration it was made with"
            ) from error
        return {name: found[name] for name in wanted}, found.loader, found.metadata

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


def load_params(
    model_dir: str | Path,
    abstract: Params,
    step: int | None = None,
    *,
    missing: Literal["error", "init"] = "error",
    average: str | None = None,
) -> tuple[Params, int]:
    """Reads only the policy's parameters of a MODEL_DIR, for evaluation or to start another run from.

    What the run trained is in its checkpoints, what it kept frozen in MODEL_DIR/frozen.

    Args:
      model_dir: the folder. abstract: ShapeDtypeStructs with shardings. step: None for the newest.
      missing: what the folder does not hold is an error, or is left out of the result, for the caller to initialise.
      average: the name of one of the run's extras that keeps an average of what trains ("ema"), to be read instead.

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
    wanted: dict[str, Any] = flat(abstract)
    found: dict[str, jax.Array] = {}
    for place, prefix in _places(model_dir, chosen, average):
        held = {name.removeprefix(prefix) for name in stored.shapes(place) if name.startswith(prefix)}
        here = {prefix + name: leaf for name, leaf in wanted.items() if name in held and name not in found}
        found |= {name.removeprefix(prefix): array for name, array in stored.read(place, here).items()}
    lacking = sorted(set(wanted) - set(found))
    if lacking and missing == "error":
        raise UserError(f"{model_dir}, step {chosen}: no array {lacking[0]}; model.json describes another model")
    return nested(found), chosen


def _places(model_dir: str | Path, step: int, average: str | None) -> list[tuple[Path, str]]:
    """Where the policy's parameters are, and what their names begin with there."""
    folder = Path(model_dir).absolute()
    checkpoint = folder / FOLDER / str(step)
    place = checkpoint / (PARAMS if average is None else f"extra_{average}")
    if not place.exists():
        kept = sorted(path.name.removeprefix("extra_") for path in checkpoint.glob("extra_*")) or ["none"]
        raise UserError(f"{model_dir}, step {step}, keeps no average {average!r}; it has {', '.join(kept)}")
    frozen = [(folder / FROZEN, "")] if (folder / FROZEN).exists() else []
    return [(place, "" if average is None else "average/"), *frozen]


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """ShapeDtypeStructs that carry the shardings of the second tree."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings
    )
