"""Checkpoints: MODEL_DIR/checkpoints/<step>/{items of the state, loader, metadata}, written by Orbax.

Saves are asynchronous and become visible by one rename; a killed save leaves nothing that looks like a checkpoint.
To gs:// Orbax writes itself; other stores get what it wrote in a local staging folder (remote.py).
Restores take the shardings of the run that restores, so the mesh may differ from the one that saved.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import orbax.checkpoint as ocp
from absl import logging

from t5x_style import files
from t5x_style.checkpoints import finished, remote, stored
from t5x_style.checkpoints.finished import FOLDER, steps
from t5x_style.checkpoints.parameters import Params, flat, nested
from t5x_style.checkpoints.stored import first_line, orbax_path
from t5x_style.errors import UserError

__all__ = [
    "FOLDER",
    "FROZEN",
    "Checkpoints",
    "load_params",
    "params_folders",
    "read_frozen",
    "refuse_adapters",
    "steps",
    "with_shardings",
    "write_frozen",
]

FROZEN = "frozen"  # MODEL_DIR/frozen: what of the policy does not train, written once


class Checkpoints:
    """The checkpoints of one MODEL_DIR.

    Args:
      model_dir: the run's folder or URL.
      keep: the newest that are kept.

    Raises:
      UserError: the URL is no place for a run of several processes.
    """

    def __init__(self, model_dir: str | Path, keep: int = 2):
        _without_tensorflow()
        self._uploads = remote.Uploads(model_dir, keep) if remote.is_staged(model_dir) else None
        self._model_dir = model_dir
        self._folder = orbax_path(files.join(model_dir, FOLDER))
        if not files.is_remote(model_dir):
            _set_aside(model_dir)
        staged = self._uploads is not None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=1 if staged else keep, create=True, enable_async_checkpointing=not staged
        )
        place = self._folder if self._uploads is None else self._uploads.staging
        self._manager = ocp.CheckpointManager(place, options=options)

    def latest(self) -> int | None:
        """The newest finished step, None where there is none."""
        return self._manager.latest_step() if self._uploads is None else max(self._uploads.steps(), default=None)

    def save(self, step: int, items: Mapping[str, Any], loader: dict, metadata: dict) -> None:
        """Starts a save of `items` and the loader's position; returns once the arrays are copied off the devices.

        A step that is already saved is left alone.

        Args:
          items: the parts of the state, each a tree of arrays and a folder of its own.

        Raises:
          UserError: a save that was started before could not be uploaded.
        """
        if self._uploads is not None:
            self._uploads.wait()  # two checkpoints at most are on the local disk
        if step in (self._manager.all_steps() if self._uploads is None else self._uploads.steps()):
            return
        saved = self._manager.save(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
                loader=ocp.args.JsonSave(loader),
                metadata=ocp.args.JsonSave(metadata),
            ),
        )
        assert saved, f"{self._folder}: Orbax left out the save of step {step}"
        if self._uploads is not None:
            self._uploads.start(step)

    def metadata(self, step: int) -> dict:
        """The metadata that a checkpoint was saved with."""
        path = files.join(self._model_dir, FOLDER, str(step), "metadata", "metadata")
        return files.read_json(path) if files.exists(path) else {}

    def restore(self, step: int, abstract: Mapping[str, Any]) -> tuple[dict[str, Any], dict, dict]:
        """Reads a checkpoint into the shardings of `abstract` (items of ShapeDtypeStructs with shardings).

        Returns:
          (those of the items that it has, the loader's state, the metadata).

        Raises:
          UserError: its arrays do not fit the configured model or optimizer.
        """
        if self._uploads is not None:
            self._uploads.fetch(step)
            self._manager.reload()
        place = self._folder if self._uploads is None else self._uploads.staging
        held = set(files.list_names(files.join(place, str(step))))
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
            where = files.join(self._folder, str(step))
            raise UserError(
                f"checkpoint {where} does not fit this configuration ({first_line(error)}); "
                "use another MODEL_DIR, or the configuration it was made with"
            ) from error
        return {name: found[name] for name in wanted}, found.loader, found.metadata

    def wait(self) -> None:
        """Returns when every save that was started is finished. Raises UserError where one could not be uploaded."""
        self._manager.wait_until_finished()
        if self._uploads is not None:
            self._uploads.wait()

    def close(self) -> None:
        """Waits for running saves and frees the manager's threads. Raises as `wait`."""
        self._manager.wait_until_finished()
        self._manager.close()
        if self._uploads is not None:
            self._uploads.close()


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
      model_dir: the folder or URL. abstract: ShapeDtypeStructs with shardings. step: None for the newest.
      missing: what the folder does not hold is an error, or is left out of the result, for the caller to initialise.
      average: the name of one of the run's extras that keeps an average of what trains ("ema"), to be read instead.

    Returns:
      (the parameters, the step they are from).

    Raises:
      UserError: there is no such checkpoint, or its arrays do not fit.
    """
    wanted: dict[str, Any] = flat(abstract)
    found: dict[str, jax.Array] = {}
    with params_folders(model_dir, step, average) as (places, chosen):
        for place, prefix in places:
            held = {name.removeprefix(prefix) for name in stored.shapes(place) if name.startswith(prefix)}
            refuse_adapters(model_dir, held - set(wanted))
            here = {prefix + name: leaf for name, leaf in wanted.items() if name in held and name not in found}
            found |= {name.removeprefix(prefix): array for name, array in stored.read(place, here).items()}
    lacking = sorted(set(wanted) - set(found))
    if lacking and missing == "error":
        raise UserError(f"{model_dir}, step {chosen}: no array {lacking[0]}; model.json describes another model")
    return nested(found), chosen


@contextlib.contextmanager
def params_folders(
    model_dir: str | Path, step: int | None = None, average: str | None = None, local: bool = False
) -> Iterator[tuple[list[tuple[str, str]], int]]:
    """Where the policy's parameters are: (folders, each with what names begin with in it, the first counts), the step.

    Args:
      average: see `load_params`. local: make a copy of gs:// too, which Orbax reads itself.

    Raises:
      UserError: there is no such finished checkpoint, or it keeps no such average.
    """
    _without_tensorflow()
    found = finished.chosen(model_dir, step)
    item = finished.PARAMS if average is None else f"extra_{average}"
    names = files.list_names(files.join(model_dir, FOLDER, str(found)))
    frozen = FROZEN in files.list_names(model_dir)
    if item not in names and (average is not None or not frozen):
        kept = sorted(name.removeprefix("extra_") for name in names if name.startswith("extra_")) or ["none"]
        raise UserError(f"{model_dir}, step {found}, keeps no average {average!r}; it has {', '.join(kept)}")
    with contextlib.ExitStack() as stack:
        places = []
        if item in names:
            place = stack.enter_context(_item(model_dir, found, item, local))
            places.append((place, "" if average is None else _average_prefix(place)))
        if frozen:
            places.append((stack.enter_context(_frozen(model_dir, local)), ""))
        yield places, found


def settings(model_dir: str | Path, step: int) -> dict[str, str]:
    """A run's settings as text by name ("data.length": "2048"), kept with a checkpoint; {} where there are none."""
    path = files.join(model_dir, FOLDER, str(step), "metadata", "metadata")
    return dict(files.read_json(path).get("settings", {})) if files.is_file(path) else {}


def _average_prefix(place: str) -> str:
    """What the policy's names begin with in an average; with "policy" where other models train too."""
    prefix = "value/average/"
    names = stored.shapes(place)
    return f"{prefix}policy/" if any(name.startswith(f"{prefix}policy/") for name in names) else prefix


def refuse_adapters(model_dir: str | Path, unread: set[str]) -> None:
    """Raises UserError where arrays that nobody asked for are those of adapters: without them it is another model."""
    adapters = sorted(name for name in unread if "/adapter/" in name)
    if adapters:
        raise UserError(
            f"{model_dir} holds adapters ({adapters[0]}, ...), which its model.json does not describe: train on with "
            "the same TrainRun.adapters; opening them for use is not supported yet"
        )


@contextlib.contextmanager
def _item(model_dir: str | Path, step: int, item: str, local: bool) -> Iterator[str]:
    if remote.is_staged(model_dir) or (local and files.is_remote(model_dir)):
        with remote.fetched(model_dir, step, item) as folder:
            yield str(folder)
    else:
        yield orbax_path(files.join(model_dir, FOLDER, str(step), item))


@contextlib.contextmanager
def _frozen(model_dir: str | Path, local: bool = False) -> Iterator[str]:
    place = files.join(model_dir, FROZEN)
    if remote.is_staged(model_dir) or (local and files.is_remote(model_dir)):
        with remote.copied(place) as folder:
            yield str(folder)
    else:
        yield orbax_path(place)


def write_frozen(model_dir: str | Path, arrays: Mapping[str, jax.Array]) -> None:
    """Writes what of the policy does not train, once, by its paths; nothing where all of it trains."""
    _without_tensorflow()
    place = files.join(model_dir, FROZEN)
    if not arrays:
        return
    if not remote.is_staged(model_dir):
        stored.write(place, arrays)
        return
    with remote.staged(FROZEN) as folder:
        stored.write(folder, arrays)
        files.upload(folder, place)


def read_frozen(model_dir: str | Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads what `write_frozen` wrote, into the shardings of `wanted`.

    Raises:
      UserError: there is none, or it does not fit.
    """
    _without_tensorflow()
    if not wanted:
        return {}
    if FROZEN not in files.list_names(model_dir):
        raise UserError(
            f"{model_dir} has no {FROZEN}/: its run froze nothing; TrainRun.trainable must not change in a MODEL_DIR"
        )
    with _frozen(model_dir) as place:
        return stored.read(place, wanted)


def _without_tensorflow() -> None:
    """Orbax's own paths (epath) go through fsspec, as ours do, also where TensorFlow is installed beside it."""
    os.environ.setdefault("EPATH_USE_TF", "0")


def _set_aside(model_dir: str | Path) -> None:
    """Renames folders that are no finished checkpoints: Orbax would take them for some, by their names."""
    for step in finished.unfinished(model_dir) if jax.process_index() == 0 else []:
        folder = files.join(model_dir, FOLDER, str(step))
        aside = next(name for n in range(1000) if not os.path.exists(name := f"{folder}.unfinished-{n}"))
        logging.warning("%s is no finished checkpoint; it is %s now", folder, os.path.basename(aside))
        os.rename(folder, aside)
    if jax.process_count() > 1:
        ocp.multihost.sync_global_processes("t5x_style_checkpoints_set_aside")


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """ShapeDtypeStructs that carry the shardings of the second tree."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), abstract, shardings
    )
