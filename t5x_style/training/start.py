"""Where a run starts: its newest checkpoint, the folders that it names, or drawn parameters.

Only what no folder holds is drawn. What of the policy is frozen is written once to MODEL_DIR/frozen; the folders of the
start are noted in MODEL_DIR/sources.json with a fingerprint, so that a continued run finds the same models or stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints, finished, parameters
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface import load
from t5x_style.training import architecture, multihost
from t5x_style.training import state as states
from t5x_style.training.run import TrainRun
from t5x_style.training.run_models import POLICY, RunModel, build
from t5x_style.training.setup import Setup
from t5x_style.training.state import Arrays, TrainState

SOURCES = "sources.json"
Shapes = Mapping[str, jax.ShapeDtypeStruct]


class Start(NamedTuple):
    """A run at its first or next step.

    Attributes:
      state, frozen: arrays on the devices. step: optimizer steps done. loader: the saved position, None at the start.
    """

    state: TrainState
    frozen: Arrays
    step: int
    loader: dict[str, Any] | None


def start(run: TrainRun, setup: Setup, saved: checkpoints.Checkpoints) -> Start:
    """Restores the newest checkpoint, or starts anew.

    Raises:
      UserError: a folder or a checkpoint does not fit, or a folder of the start has changed since.
    """
    latest = saved.latest()
    if latest is None:
        steps = _note_sources(run, setup, None)
        arrays = start_arrays(run, setup, {**setup.abstract.trainable, **setup.frozen}, steps)
        frozen = {name: arrays[name] for name in setup.frozen}
        checkpoints.write_frozen(run.model_dir, _of_policy(frozen))
        return Start(_fresh(run, setup, {name: arrays[name] for name in setup.abstract.trainable}), frozen, 0, None)
    items, loader, metadata = saved.restore(latest, setup.abstract.items())
    for name, before in metadata.get("execution", {}).items():
        if getattr(run.execution, name, before) != before:
            logging.info("Execution.%s was %r, is now %r", name, before, getattr(run.execution, name))
    state = TrainState.of_items(items, list(setup.abstract.trainable), run.extras)
    for name in run.extras:
        if f"extra_{name}" not in items:
            logging.info("the checkpoint has no extra %r: it starts from the restored parameters", name)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.extra)
    state.extra = jax.device_put(state.extra, shardings)
    steps = _note_sources(run, setup, files.join(run.model_dir, SOURCES))
    kept = {name: leaf for name, leaf in setup.frozen.items() if name.startswith(f"{POLICY}/")}
    frozen = {f"{POLICY}/{path}": a for path, a in checkpoints.read_frozen(run.model_dir, _of_policy(kept)).items()}
    frozen |= start_arrays(run, setup, {n: leaf for n, leaf in setup.frozen.items() if n not in kept}, steps)
    return Start(state, frozen, latest, loader)


def draw(run: TrainRun, setup: Setup) -> tuple[TrainState, Arrays]:
    """(state, frozen) with everything drawn, no folder read: for measurements."""
    arrays = _drawn(run, setup, {**setup.abstract.trainable, **setup.frozen})
    frozen = {name: arrays[name] for name in setup.frozen}
    return _fresh(run, setup, {name: arrays[name] for name in setup.abstract.trainable}), frozen


def start_arrays(run: TrainRun, setup: Setup, wanted: Shapes, steps: Mapping[str, int]) -> Arrays:
    """The arrays of flat names as the run starts with them, in the shardings of `wanted`.

    Args:
      steps: of the MODEL_DIRs that are read, which checkpoint.
    """
    arrays: Arrays = {}
    missing: dict[str, jax.ShapeDtypeStruct] = {}
    for name, model in setup.models.items():
        mine = {path: wanted[f"{name}/{path}"] for path in model.shapes if f"{name}/{path}" in wanted}
        found: dict[str, jax.Array] = {}
        if model.source.folder is None and name != POLICY:  # the policy's start, copied: the policy's own is donated
            begun = {path: arrays[f"{POLICY}/{path}"] for path in mine if f"{POLICY}/{path}" in arrays}
            found = {path: jnp.array(array, mine[path].dtype, copy=True) for path, array in begun.items()}
        for prefix, folder in _folders(run, model).items():
            inside = _under(mine, prefix, found)
            read = _read_folder(folder, model, inside, steps.get(folder), whole=not prefix)
            found |= {_joined(prefix, path): array for path, array in read.items()}
        missing |= {f"{name}/{path}": leaf for path, leaf in mine.items() if path not in found}
        if _folders(run, model) and (drawn := sorted(set(mine) - set(found))):
            logging.warning("%s: %d arrays are in no folder and are drawn: %s", name, len(drawn), ", ".join(drawn))
        arrays |= {f"{name}/{path}": array for path, array in found.items()}
    return arrays | _drawn(run, setup, missing)


def _folders(run: TrainRun, model: RunModel) -> dict[str, str]:
    """Path prefix -> folder that a model starts from; {} where it is drawn."""
    if model.source.folder is not None:
        return {"": model.source.folder}
    if run.init_from is None:
        return {}
    if isinstance(run.init_from, str):
        return {"": run.init_from}
    return dict(sorted(run.init_from.items(), key=lambda item: -len(item[0])))


def _under(wanted: Shapes, prefix: str, found: Iterable[str]) -> dict[str, jax.ShapeDtypeStruct]:
    held = set(found)
    start = f"{prefix}/" if prefix else ""
    return {p.removeprefix(start): leaf for p, leaf in wanted.items() if p.startswith(start) and p not in held}


def _joined(prefix: str, path: str) -> str:
    return f"{prefix}/{path}" if prefix else path


def _read_folder(folder: str, model: RunModel, wanted: Shapes, step: int | None, whole: bool) -> dict[str, jax.Array]:
    """Those of the arrays that the folder holds."""
    if not wanted:
        return {}
    if folders.is_folder(folder):
        config = architecture.starting_config(folder, model.config, "init_from") if whole else None
        found = load.load_params(folders.open_folder(folder, config), parameters.nested(wanted), missing="init")
        logging.info("%s: parameters from the Hugging Face folder %s", model.name, folder)
    else:
        found, step = checkpoints.load_params(folder, parameters.nested(wanted), step, missing="init")
        logging.info("%s: parameters from %s, step %d", model.name, folder, step)
    return parameters.flat(found)


def _drawn(run: TrainRun, setup: Setup, wanted: Shapes) -> Arrays:
    """Drawn values, by one program that computes nothing else."""
    if not wanted:
        return {}

    def values() -> Arrays:
        arrays: Arrays = {}
        for name, model in setup.models.items():
            if any(flat.startswith(f"{name}/") for flat in wanted):
                built = parameters.flat(parameters.split(build(run, name, model.config, model.policy))[2])
                arrays |= {f"{name}/{path}": array for path, array in built.items()}
        return {name: arrays[name] for name in wanted}

    return jax.jit(values, out_shardings={name: leaf.sharding for name, leaf in wanted.items()})()


def _fresh(run: TrainRun, setup: Setup, trainable: Arrays) -> TrainState:
    """The state at step 0 around these arrays."""

    def rest(trainable: Arrays) -> tuple:
        state = states.fresh(trainable, setup.optimizer, run.extras)
        return state.step, state.optimizer, state.guard, state.extra

    abstract = setup.abstract
    shapes = (abstract.step, abstract.optimizer, abstract.guard, abstract.extra)
    step, optimizer, guard, extra = jax.jit(rest, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, shapes))(
        trainable
    )
    return TrainState(step, trainable, optimizer, guard, extra)


def _of_policy(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value of the policy's among flat names."""
    start = f"{POLICY}/"
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}


def _note_sources(run: TrainRun, setup: Setup, noted: str | None) -> dict[str, int]:
    """Writes or compares sources.json; returns the checkpoint that is read of every MODEL_DIR."""
    named = {folder for model in setup.models.values() for folder in _folders(run, model).values()}
    if noted is None:
        found = {folder: _source(folder, None) for folder in sorted(named)}
        if multihost.is_writer():
            files.atomic_write_json(files.join(run.model_dir, SOURCES), found)
        return {folder: entry["step"] for folder, entry in found.items() if entry["step"] is not None}
    before = files.read_json(noted) if files.exists(noted) else {}
    # The policy is in its checkpoint: only folders of models that are read again must still be there.
    again = {
        folder
        for name, model in setup.models.items()
        if any(flat.startswith(f"{name}/") for flat in setup.frozen) and name != POLICY
        for folder in _folders(run, model).values()
    }
    for folder in sorted(again):
        old = before.get(folder)
        if old is not None and _source(folder, old["step"]) != old:
            raise UserError(
                f"{folder!r} has changed since {run.model_dir!r} began; put it back, or use another MODEL_DIR"
            )
    return {folder: before[folder]["step"] for folder in again if before.get(folder, {}).get("step") is not None}


def _source(folder: str, step: int | None) -> dict[str, Any]:
    """{"step", "fingerprint"} of a folder: names and sizes of the files that hold the parameters, and its config."""
    if folders.is_folder(folder):
        step, described = None, folders.CONFIG
        sizes = {n: size for n, size in files.file_sizes(folder).items() if n.endswith(".safetensors")}
    else:
        step, described = finished.chosen(folder, step), model_dir.MODEL
        sizes = files.folder_of_files(files.join(folder, checkpoints.FOLDER, str(step), finished.PARAMS))
    text = files.read_text(files.join(folder, described))
    return {"step": step, "fingerprint": files.fingerprint([sizes, text])}
