"""The card of a model: a JSON file beside it that says what it was made of, how it reads text and how good it is.

The card of `quality.bin` is `quality.json`. It is written last, so a folder with a card is complete.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.files import storage
from t5x_style.errors import UserError
from t5x_style.files import file_sha256, read_json


def card_path(model: str) -> str:
    """Where the card of a model file is.

    Example: "a/lm.arpa.gz" -> "a/lm.json".
    """
    folder, name = posixpath.split(model)
    return posixpath.join(folder, f"{name.split('.', 1)[0]}.json")


def read_card(model: str, kind: str) -> dict[str, Any]:
    """The card beside a model file; {} where there is none or it is of another kind (a model from elsewhere)."""
    path = card_path(model)
    if not storage.exists(path):
        return {}
    card = storage.read_json(path)
    return card if isinstance(card, dict) and card.get("kind") == kind else {}


def model_identity(model: str, kind: str) -> str:
    """What changes when a model is trained again: the fingerprint on its card, else its size.

    Stages keep it among their parameters, so that a folder of outputs refuses to go on with another model.
    """
    return read_card(model, kind).get("fingerprint") or f"{storage.size(model)} bytes"


def require_model(path: str, parameter: str) -> None:
    """Raises UserError unless the model file is there; `parameter` is how the user gave it."""
    if not path or not storage.exists(path) or (storage.is_local(path) and os.path.isdir(path)):
        raise UserError(f"{parameter} {path!r} is no file; give the path of a trained model")


def finished(card: Path, config: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any] | None:
    """The card if its model stands and has this configuration; None if there is no card yet.

    Args:
      card: its path.
      config: what the command would record.
      files: field of the card -> name of the file beside it whose SHA-256 it holds.

    Raises:
      UserError: the folder holds another configuration's model, or a file was changed.
    """
    if not card.exists():
        return None
    recorded = read_json(card)
    before = recorded.get("config", {})
    if before != config:
        different = sorted(key for key in {*config, *before} if before.get(key) != config.get(key))
        raise UserError(
            f"{card.parent} holds a model with another {', '.join(different)}; delete it or pass another --output"
        )
    for field, name in files.items():
        path = card.parent / name
        if not path.exists() or file_sha256(path) != recorded[field]:
            raise UserError(f"{path} is missing or was changed; delete {card.parent} and run the same command again")
    logging.info("%s is complete, nothing to do", card)
    return recorded
