"""Which architecture a folder holds, and whether a configured one may start from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from t5x_style import files, model_dir
from t5x_style.errors import UserError
from t5x_style.huggingface import export_settings, matching
from t5x_style.huggingface import folder as folders
from t5x_style.losses.loss import ModelSource

# Parts on top of the trunk: a run may start from a model that has others, or none.
_SAME = "leave the model out to take the folder's, or configure the same model"
_HEADS = ("head", "tasks", "tied_embeddings", "pooler")


def of_folder(path: str, what: str) -> Any:
    """The architecture of a MODEL_DIR or a Hugging Face folder.

    Args:
      what: the setting that names the folder, for messages.

    Raises:
      UserError: it is neither, or cannot be read.
    """
    if folders.is_folder(path):
        return folders.open_folder(path).config
    if not files.exists(files.join(path, model_dir.MODEL)):
        if not files.exists(path):
            hub = "a name on the Hub: download it first, `hf download NAME --local-dir FOLDER`"
            raise UserError(f"{what} {path!r} does not exist; give a MODEL_DIR or a Hugging Face folder ({hub})")
        raise UserError(
            f"{what} {path!r} is no MODEL_DIR: it has no {model_dir.MODEL}; nor is it a Hugging Face folder"
        )
    return model_dir.read_config(path)


def starting_config(path: str, wanted: Any, what: str) -> Any:
    """`wanted` with the heads of the folder's model: what is read from it.

    Raises:
      UserError: but for its heads the folder holds another model.
    """
    found = of_folder(path, what)
    if type(found) is not type(wanted):
        raise UserError(
            f"{what} {path!r} holds another model: it is a {type(found).__name__}, configured is a "
            f"{type(wanted).__name__}; {_SAME}"
        )
    config = with_heads_of(wanted, found)
    different = matching.difference(found, config)
    if different is not None:
        raise UserError(f"{what} {path!r} holds another model: {different}; {_SAME}")
    if not folders.is_folder(path):  # their tables are padded when they are read
        _check_table(found, config, f"{what} {path!r}")
    return config


def of_source(source: ModelSource, policy: Any, what: str) -> Any:
    """The architecture of a loss's model: its own, its folder's, or the policy's.

    Raises:
      UserError: its folder holds another model.
    """
    if source.folder is None:
        return policy if source.model is None else source.model
    if source.model is None:
        return of_folder(source.folder, what)
    starting_config(source.folder, source.model, what)
    return source.model


def with_heads_of(config: Any, other: Any) -> Any:
    """`config` with the heads of `other`, an architecture of the same kind."""
    if hasattr(config, "decoder"):
        return dataclasses.replace(config, decoder=with_heads_of(config.decoder, other.decoder))
    heads = {name: getattr(other, name) for name in _HEADS if hasattr(config, name) and hasattr(other, name)}
    return dataclasses.replace(config, **heads)


def kept_settings(init_from: str | Mapping[str, str] | None) -> dict[str, bytes]:
    """The files that say what a start is at Hugging Face, by name: of its folder, or of a run that started there."""
    start = init_from if init_from is None or isinstance(init_from, str) else init_from.get("")
    if start is None:
        return {}
    folder = start if folders.is_folder(start) else files.join(start, model_dir.HUGGINGFACE)
    names = export_settings.setting_files(files.file_sizes(folder))
    return {name: files.read_bytes(files.join(folder, name)) for name in names}


def check_same(path: str, wanted: Any) -> None:
    """Raises UserError unless the MODEL_DIR holds a run of this model; initialisation is no part of it."""
    found, what = model_dir.read_config(path), f"MODEL_DIR {path!r} holds a run of another model"
    if type(found) is not type(wanted):
        raise UserError(f"{what}: it is a {type(found).__name__}, configured is a {type(wanted).__name__}")
    different = matching.difference(found, wanted)
    if different is not None:
        raise UserError(f"{what}: {different}; use another folder or the same model")
    _check_table(found, wanted, f"MODEL_DIR {path!r}")


def _check_table(found: Any, wanted: Any, what: str) -> None:
    """A checkpoint's table has its own rows of padding, which are no part of what a model computes."""
    if found.padded_vocab_size != wanted.padded_vocab_size:
        raise UserError(
            f"{what} holds a token table of {found.padded_vocab_size} rows, configured are "
            f"{wanted.padded_vocab_size}; use its vocab_multiple"
        )
