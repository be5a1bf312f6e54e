"""From a MODEL_DIR to a folder that transformers opens with from_pretrained."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from t5x_style import model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.errors import UserError
from t5x_style.huggingface import export_settings, load, matching
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface.import_model import Written
from t5x_style.huggingface.output_folder import output_folder
from t5x_style.huggingface.weights import checkpoint_arrays, safetensors_files, weight_map
from t5x_style.huggingface.weights.safetensors_files import StoredTensor
from t5x_style.huggingface.weights.weight_map import Rule, WeightMap
from t5x_style.progress import Progress

DEFAULT_SHARD = 5_000_000_000  # bytes, as transformers' save_pretrained before version 5


def export_model(
    source: str | Path,
    target: str | Path,
    *,
    model_type: str | None = None,
    dtype: str | None = None,
    max_shard_size: int = DEFAULT_SHARD,
    step: int | None = None,
    average: str | None = None,
) -> Written:
    """Writes config.json, generation_config.json, the tokenizer and safetensors of a MODEL_DIR.

    A model that was imported keeps its config.json, but for what has changed. Memory of the host: a few tensors of a
    checkpoint that an import wrote, one parameter (all layers of it) of one that training wrote.

    Args:
      source: a MODEL_DIR or its URL. target: must not exist, or be empty.
      model_type: their name of the architecture; None: that of the import, or the first that holds the model.
      dtype: of the weights, "float32", "bfloat16" or "float16"; None: as the checkpoint has them.
      max_shard_size: bytes of one file. step: a checkpoint's step, None for the newest.
      average: one of the run's extras that keeps an average of the parameters ("ema"), in their place.

    Raises:
      UserError: no architecture holds the model, the checkpoint is missing or does not fit; nothing is left then.
    """
    start = time.monotonic()
    config = model_dir.read_config(source)
    with checkpoints.params_folders(source, step, average, local=True) as (places, found):
        reader = checkpoint_arrays.Readers(places)
        settings = checkpoints.settings(source, found)
        length = settings.get("data.longest_row", settings.get("data.length", ""))
        trained = int(length) if length.isdecimal() else None
        return _export(
            config, model_dir.local(source), reader, target, model_type, dtype, max_shard_size, start, trained
        )


def _export(
    config: Any,
    source: Path,
    reader: checkpoint_arrays.Readers,
    target: str | Path,
    model_type: str | None,
    dtype: str | None,
    limit: int,
    start: float,
    trained: int | None,
) -> Written:
    original = export_settings.original(source)
    match = matching.match(config, original, model_type)
    if original is None or original.get("model_type") != match.settings["model_type"]:
        match = matching.with_reach(match, config, trained)
    mapping: WeightMap = match.family.weight_map(config)
    _check_fit(config, mapping, reader, source)
    tensors = _tensors(mapping, reader, dtype)
    nbytes = sum(math.prod(shape) * kind.itemsize for kind, shape in tensors.values())
    with output_folder(target, needed=nbytes) as working:
        places = _create_files(working, tensors, limit)
        with Progress(f"export {source.name}", total=len(places), unit="tensors") as progress:
            for name, value in _values(mapping, reader):
                safetensors_files.write(places[name], _cast(value, places[name]))
                del value  # it may be part of a parameter, and would keep it in memory
                progress.advance()
        for file in sorted({place.file for place in places.values()}):
            safetensors_files.sync(file)
        main = _main_dtype(tensors)
        notes = export_settings.write(source, working, match.settings, config, main)
        before = export_settings.dtype(original or {})
        if dtype is None and before not in (None, main):
            notes.append(f"the weights are {main}, as trained; those it started from were {before} (--dtype {before})")
    return Written(
        path=Path(target),
        model_type=str(match.settings.get("model_type")),
        parameters=sum(math.prod(shape) for _, shape in tensors.values()),
        nbytes=nbytes,
        seconds=time.monotonic() - start,
        notes=tuple(notes),
    )


def _check_fit(config: Any, mapping: WeightMap, reader: checkpoint_arrays.Readers, source: Path) -> None:
    """Everything that the model has is in the checkpoint with its shape, and goes somewhere."""
    checkpoints.refuse_adapters(source, set(reader.shapes))
    expected = {path: leaf.shape for path, leaf in load.abstract_parameters(config).items()}
    for path, shape in expected.items():
        if reader.shapes.get(path) != shape:
            raise UserError(
                f"{source}: parameter {path} has shape {reader.shapes.get(path)} in the checkpoint, model.json needs "
                f"{shape}; they are not of one run"
            )
    mapped = {path for rule, _ in mapping.rules() for path in rule.ours}
    assert mapped == set(expected), sorted(mapped ^ set(expected))


def _tensors(
    mapping: WeightMap, reader: checkpoint_arrays.Readers, dtype: str | None
) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    def kind(rule: Rule) -> np.dtype:
        return np.dtype(jnp.dtype(dtype) if dtype else jnp.result_type(*{reader.dtypes[path] for path in rule.ours}))

    return {rule.theirs: (kind(rule), tuple(rule.layout.theirs)) for rule, _ in mapping.rules()}


def _main_dtype(tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> str:
    """The dtype of most numbers."""
    counts: dict[str, int] = {}
    for kind, shape in tensors.values():
        counts[kind.name] = counts.get(kind.name, 0) + math.prod(shape)
    return max(counts, key=lambda name: counts[name])


def _create_files(
    folder: Path, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]], limit: int
) -> dict[str, StoredTensor]:
    sizes = [(name, math.prod(shape) * kind.itemsize) for name, (kind, shape) in tensors.items()]
    parts = safetensors_files.shards(sizes, limit)
    if len(parts) == 1:
        return safetensors_files.create(folder / folders.SINGLE, tensors)
    places: dict[str, StoredTensor] = {}
    for number, names in enumerate(parts, 1):
        file = folder / f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        places |= safetensors_files.create(file, {name: tensors[name] for name in names})
    count = sum(math.prod(shape) for _, shape in tensors.values())
    index = {
        "metadata": {"total_parameters": count, "total_size": sum(size for _, size in sizes)},
        "weight_map": {name: places[name].file.name for name in sorted(places)},
    }
    (folder / folders.INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return places


def _values(mapping: WeightMap, reader: checkpoint_arrays.Readers) -> Iterator[tuple[str, np.ndarray]]:
    for group in load.groups(mapping):
        paths = {path for rule, _ in group.rules() for path in rule.ours}
        yield from weight_map.write({path: reader.open(path) for path in paths}, group)


def _cast(value: np.ndarray, place: StoredTensor) -> np.ndarray:
    if value.dtype == place.dtype:
        return value
    with np.errstate(over="ignore"):
        cast = value.astype(place.dtype)
    if not np.isfinite(cast.astype(np.float32)).all() and np.isfinite(value.astype(np.float32)).all():
        raise UserError(f"tensor {place.name} has values beyond {place.dtype.name}; export it with --dtype bfloat16")
    return cast
