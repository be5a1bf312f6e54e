"""Where a run starts: its newest checkpoint, the folders that it names, or drawn parameters.

Only what no folder holds is drawn. What of the policy is frozen is written once to MODEL_DIR/frozen.
MODEL_DIR/sources.json notes the seed and, by model, the folders of the start with a fingerprint of their content: a
continued run finds the same models again, or stops.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import logging

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints, finished, parameters
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface import load
from t5x_style.training import architecture, multihost, settings
from t5x_style.training import state as states
from t5x_style.training.run import TrainRun
from t5x_style.training.run_models import POLICY, RunModel, build
from t5x_style.training.setup import Setup
from t5x_style.training.state import Arrays, TrainState

SOURCES = "sources.json"
# Settings that say which arrays a checkpoint has.
_SHAPING = ("optimizer", "trainable", "model", "adapters", "loss", "policy.params")
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
        noted: dict[str, Any] = {
            "seed": run.seed,
            "models": {name: _sources(run, model) for name, model in setup.models.items()},
        }
        if multihost.is_writer():
            files.atomic_write_json(files.join(run.model_dir, SOURCES), noted)
        arrays = start_arrays(run, setup, {**setup.abstract.trainable, **setup.frozen}, noted)
        frozen = {name: arrays[name] for name in setup.frozen}
        checkpoints.write_frozen(run.model_dir, _of_policy(frozen))
        return Start(_fresh(run, setup, {name: arrays[name] for name in setup.abstract.trainable}), frozen, 0, None)
    if latest > run.steps:
        raise UserError(f"{run.model_dir} is at step {latest}, TrainRun.steps is {run.steps}; give more steps")
    before = saved.metadata(latest).get("settings", {})
    changes = settings.changed(before, settings.settings(run)) if before else []
    try:
        items, loader, _ = saved.restore(latest, setup.abstract.items())
    except UserError as error:
        told = [line for line in changes if line.startswith(_SHAPING)]
        if not told:
            raise
        raise UserError(
            f"{run.model_dir}, step {latest}, is of another run: {'; '.join(told)}; put it back, or use another "
            "MODEL_DIR"
        ) from error
    for line in changes:
        logging.info("changed since the checkpoint: %s", line)
    state = TrainState.of_items(items, list(setup.abstract.trainable), run.extras)
    for name in run.extras:
        if f"extra_{name}" not in items:
            logging.info("the checkpoint has no extra %r: it starts from the restored parameters", name)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, setup.abstract.extra)
    state.extra = jax.device_put(state.extra, shardings)
    kept = {name: leaf for name, leaf in setup.frozen.items() if name.startswith(f"{POLICY}/")}
    frozen = {f"{POLICY}/{path}": a for path, a in checkpoints.read_frozen(run.model_dir, _of_policy(kept)).items()}
    others = {name: leaf for name, leaf in setup.frozen.items() if name not in kept}
    if others:
        noted = _checked_sources(run, setup, others)
        frozen |= start_arrays(dataclasses.replace(run, seed=noted["seed"]), setup, others, noted)
    return Start(state, frozen, latest, loader)


def draw(run: TrainRun, setup: Setup) -> tuple[TrainState, Arrays]:
    """(state, frozen) with everything drawn, no folder read: for measurements."""
    arrays = _drawn(run, setup, {**setup.abstract.trainable, **setup.frozen})
    frozen = {name: arrays[name] for name in setup.frozen}
    return _fresh(run, setup, {name: arrays[name] for name in setup.abstract.trainable}), frozen


def start_arrays(run: TrainRun, setup: Setup, wanted: Shapes, noted: Mapping[str, Any]) -> Arrays:
    """The arrays of flat names as the run starts with them, in the shardings of `wanted`.

    Args:
      noted: the content of sources.json, which says which checkpoint of a MODEL_DIR is read.

    Raises:
      UserError: a folder holds none of the arrays, or does not fit.
    """
    arrays: Arrays = {}
    missing: dict[str, jax.ShapeDtypeStruct] = {}
    for name, model in setup.models.items():
        mine = {path: wanted[f"{name}/{path}"] for path in model.shapes if f"{name}/{path}" in wanted}
        found: dict[str, jax.Array] = {}
        if model.source.folder is None and name != POLICY:  # the policy's start, copied: the policy's own is donated
            begun = {path: arrays[f"{POLICY}/{path}"] for path in mine if f"{POLICY}/{path}" in arrays}
            # Of another dtype they are read again, as they will be when the run is continued.
            found = {p: jnp.array(a, copy=True) for p, a in begun.items() if a.dtype == mine[p].dtype}
        for prefix, folder in _folders(run, model).items():
            inside = _under(mine, prefix, found)
            step = noted["models"].get(name, {}).get(prefix, {}).get("step")
            read = _read_folder(folder, model, inside, step, whole=not prefix)
            if inside and not read:
                raise UserError(f"{name}: {folder} holds none of its parameters{f' under {prefix}/' if prefix else ''}")
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
        config = architecture.starting_config(folder, model.config, f"{model.name}: its folder") if whole else None
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


def _sources(run: TrainRun, model: RunModel) -> dict[str, Any]:
    """Path prefix -> {"folder", "step", "fingerprint"} of what a model starts from."""
    return {prefix: _source(folder) for prefix, folder in _folders(run, model).items()}


def _checked_sources(run: TrainRun, setup: Setup, wanted: Iterable[str]) -> dict[str, Any]:
    """sources.json, if the models whose arrays are read again are where they were, as they were."""
    path = files.join(run.model_dir, SOURCES)
    if not files.exists(path):
        raise UserError(f"{path} does not exist: {run.model_dir} was begun without such models; use another MODEL_DIR")
    noted = files.read_json(path)
    for name in dict.fromkeys(flat.split("/", 1)[0] for flat in wanted):
        before, now = noted["models"].get(name, {}), _folders(run, setup.models[name])
        if {prefix: _absolute(folder) for prefix, folder in now.items()} != {p: e["folder"] for p, e in before.items()}:
            told = ", ".join(entry["folder"] for entry in before.values()) or "drawn parameters"
            raise UserError(f"{name} started from {told} and now from {', '.join(now.values()) or 'none'}; put it back")
        for prefix, folder in now.items():
            if _source(folder, before[prefix]["step"]) != before[prefix]:
                raise UserError(
                    f"{folder!r} has changed since {run.model_dir!r} began; put it back, or use another MODEL_DIR"
                )
    return noted


def _source(folder: str, step: int | None = None) -> dict[str, Any]:
    """Where a start is and what is in it."""
    if folders.is_folder(folder):
        held = files.local_folder(folder)
        content: list[Any] = [[file.name, *_sampled(file)] for file in sorted(held.glob("*.safetensors"))]
        text = files.read_text(files.join(folder, folders.CONFIG))
    else:
        step = finished.chosen(folder, step)
        place = files.join(folder, checkpoints.FOLDER, str(step))
        content = [files.folder_of_files(files.join(place, finished.PARAMS))]
        mark = files.join(place, "_CHECKPOINT_METADATA")  # has the time of the save
        text = files.read_text(files.join(folder, model_dir.MODEL)) + (
            files.read_text(mark) if files.exists(mark) else ""
        )
    return {"folder": _absolute(folder), "step": step, "fingerprint": files.fingerprint([content, text])}


def _sampled(file: Path) -> tuple[int, str]:
    """The size of a file and a hash of 64 pieces of 4 KiB: its beginning, its end, and between."""
    size, digest = file.stat().st_size, hashlib.blake2b(digest_size=16)
    with file.open("rb") as opened:
        for piece in range(64):
            opened.seek(max(0, size - 4096) * piece // 63)
            digest.update(opened.read(4096))
    return size, digest.hexdigest()


def _absolute(folder: str) -> str:
    return folder if files.is_remote(folder) else os.path.abspath(folder)


def _of_policy(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value of the policy's among flat names."""
    start = f"{POLICY}/"
    return {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
