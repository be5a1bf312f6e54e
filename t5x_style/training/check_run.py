"""What is wrong with a run, found before any device work: its folder, its start, its tokenizer, its data."""

from __future__ import annotations

import dataclasses
from typing import Any

from t5x_style import files, model_dir
from t5x_style.checkpoints import checkpoints
from t5x_style.data.data_config import DataConfig
from t5x_style.data.objectives import CausalLM, MaskedLM, NextSentence, PrefixLM
from t5x_style.errors import UserError
from t5x_style.losses.forward import side_of
from t5x_style.training import architecture, tokenizer
from t5x_style.training.fields import check_fields
from t5x_style.training.run import TrainRun


def resolve(run: TrainRun) -> TrainRun:
    """The run with its architecture: where it has none of its own that of its MODEL_DIR, else of `init_from`.

    Raises:
      UserError: `init_from` is no folder of a model.
    """
    if run.model is not None:
        return run
    if begun(run):
        return dataclasses.replace(run, model=model_dir.read_config(run.model_dir))
    assert isinstance(run.init_from, str)
    return dataclasses.replace(run, model=architecture.of_folder(run.init_from, "init_from"))


def check_run(run: TrainRun, writes: bool = True) -> TrainRun:
    """Finds what is wrong with a run before any device work.

    Args:
      writes: prove that MODEL_DIR can be written, which makes it.

    Returns:
      The run with its architecture and its row streams, see `resolve` and `with_streams`.

    Raises:
      UserError: the folder cannot be written or holds another model, the tokenizer or the data is missing or does not
        fit the model, or a folder that the run starts from holds no model of the same shape.
    """
    if writes:
        files.check_writable(run.model_dir, "MODEL_DIR")
    _check_place(run)
    run = resolve(run)
    assert run.model is not None
    if begun(run):
        architecture.check_same(run.model_dir, run.model)
    check_sources(run)
    tokenizer.of_run(run)
    return with_streams(run)


def with_streams(run: TrainRun) -> TrainRun:
    """The run with the number of its row streams said: its checkpoint's, else chosen from the batch size.

    Random choices of a row depend on its stream (step.global_rows), so that it is to be known before the step is made.
    """
    data = run.data
    if data.streams is not None or not data.repeat:
        return run
    chosen = data.open_streams
    if begun(run):
        saved = checkpoints.settings(run.model_dir, max(checkpoints.steps(run.model_dir))).get("data.streams", "")
        if saved.isdigit():
            chosen = int(saved)
            if any(part.batch_size // data.accumulation % chosen for part in data.parts):
                return run  # the loader says what is wrong
    return dataclasses.replace(run, data=dataclasses.replace(data, streams=chosen))


def _check_place(run: TrainRun) -> None:
    """That MODEL_DIR is no folder of another kind, which it would change."""
    if files.is_file(files.join(run.model_dir, "config.json")) and not files.is_file(
        files.join(run.model_dir, model_dir.MODEL)
    ):
        raise UserError(f"MODEL_DIR {run.model_dir!r} is a Hugging Face folder, which it would change; give another")


def begun(run: TrainRun) -> bool:
    """Does MODEL_DIR hold a run that would be continued? Without a checkpoint nothing is lost."""
    return files.exists(files.join(run.model_dir, model_dir.MODEL)) and bool(checkpoints.steps(run.model_dir))


def check_sources(run: TrainRun) -> None:
    """Raises UserError unless every folder that a model starts from holds that model, and the data fits them all.

    The start of a run that is continued is looked at only where a model is read from it again (see start.py).
    """
    assert run.model is not None
    configs = {"policy": run.model}
    started = begun(run)
    if isinstance(run.init_from, str) and not started:
        architecture.starting_config(run.init_from, run.model, "init_from")
    parts = {} if run.init_from is None or isinstance(run.init_from, str) or started else run.init_from
    for prefix, folder in parts.items():
        architecture.of_folder(folder, f"init_from[{prefix!r}]")
    for name, source in run.loss.models().items():
        what = f"{type(run.loss).__name__}.{name}"
        configs[name] = architecture.of_source(source, run.model, what)
    for data in [run.data] + ([run.evaluation.data] if run.evaluation else []):
        check_fields(run.loss, configs, data.first_objective)
        check_positions(run.model, data)


def check_positions(config: Any, data: DataConfig) -> None:
    """Raises UserError where a segment may be longer than the model's table of positions: its end would have no own.

    Only for objectives whose segments may fill a row; others keep theirs shorter by themselves.
    """
    positions = getattr(getattr(config, "embedding", None), "positions", None)
    whole_rows = isinstance(data.first_objective, (CausalLM, PrefixLM, MaskedLM, NextSentence))
    if positions is None or positions.kind != "learned" or not whole_rows:
        return
    longest = max(lengths[side_of(config)] for lengths in data.lengths_of_parts())
    if longest > positions.length - positions.offset:
        raise UserError(
            f"rows of {longest} tokens are longer than the {positions.length - positions.offset} positions of the "
            "model; give DataConfig.length (the macro LENGTH) at most as many"
        )
