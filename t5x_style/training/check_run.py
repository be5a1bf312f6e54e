"""What is wrong with a run, found before any device work: its folder, its start, its tokenizer, its data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.data.sources import resolve_sources
from t5x_style.data.vocabulary import Vocabulary
from t5x_style.errors import UserError
from t5x_style.huggingface import folder as folders
from t5x_style.huggingface import matching
from t5x_style.training.run import TrainRun


def check_run(run: TrainRun) -> None:
    """Finds what is wrong with a run before any device work.

    Raises:
      UserError: the folder cannot be written or holds another model, the tokenizer or the data is missing or does not
        fit the model, or `init_from` holds no model of the same shape.
    """
    folder = files.require_writable(run.model_dir, "MODEL_DIR")
    if (folder / model_dir.MODEL).exists() and checkpoints.steps(folder):  # without a checkpoint nothing is lost
        _same_model(model_dir.read_config(folder), run.model, f"MODEL_DIR {str(folder)!r} holds a run of another model")
    if run.init_from:
        _check_start(run.init_from, run.model)
    if not Path(run.tokenizer).is_file():
        raise UserError(f"tokenizer {run.tokenizer!r} does not exist; train one with beam_pipelines.train_tokenizer")
    vocabulary = Vocabulary(run.tokenizer)
    if vocabulary.size > run.model.vocab_size:
        raise UserError(f"tokenizer {run.tokenizer!r} has {vocabulary.size} ids, the model only {run.model.vocab_size}")
    for data in [run.data] + ([run.evaluation.data] if run.evaluation else []):
        found = resolve_sources(data.cache_dir, data.name, data.split, data.objective, data.rates, data.unit)
        if found.vocabulary is not None and found.fingerprint != vocabulary.fingerprint:
            raise UserError(
                f"cache {data.name!r} in {data.cache_dir} was tokenised with another tokenizer than {run.tokenizer!r}; "
                "cache it again, or give the tokenizer it was made with"
            )


def _check_start(init_from: str, model: Any) -> None:
    if folders.is_folder(init_from):
        different = matching.difference(folders.open_folder(init_from).config, model)
        if different is not None:
            raise UserError(f"init_from {init_from!r} holds another model: {different}; configure the same model")
        return
    if not (Path(init_from) / model_dir.MODEL).exists():
        raise UserError(
            f"init_from {init_from!r} is no MODEL_DIR: it has no {model_dir.MODEL}; nor is it a Hugging Face folder"
        )
    _same_model(model_dir.read_config(init_from), model, f"init_from {init_from!r} holds another model")


def _same_model(found: Any, wanted: Any, what: str) -> None:
    """How parameters are drawn may differ; everything else is part of them."""
    if type(found) is not type(wanted):
        raise UserError(f"{what}: it is a {type(found).__name__}, configured is a {type(wanted).__name__}")
    for field in dataclasses.fields(wanted):
        if field.name != "init" and getattr(found, field.name) != getattr(wanted, field.name):
            raise UserError(
                f"{what}: {field.name} is {getattr(found, field.name)}, configured is {getattr(wanted, field.name)}; "
                "use another folder or the same model"
            )
