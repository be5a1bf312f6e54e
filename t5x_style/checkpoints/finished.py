"""Which checkpoints of a MODEL_DIR are finished: by what their writer left when it was done, never by a folder's name.

Orbax enters a commit time into _CHECKPOINT_METADATA, or writes commit_success.txt, last of all. What we upload
(remote.py) has upload.json from the beginning and counts from the moment that commit.json is there.
"""

from __future__ import annotations

import json
from pathlib import Path

from t5x_style import files
from t5x_style.errors import UserError

FOLDER = "checkpoints"
PARAMS = "params"
UPLOAD, COMMIT = "upload.json", "commit.json"
_ORBAX = "_CHECKPOINT_METADATA"
_SUCCESS = "commit_success.txt"


def steps(model_dir: str | Path) -> list[int]:
    """The finished checkpoints of a MODEL_DIR, oldest first.

    Raises:
      UserError: a remote MODEL_DIR cannot be read.
    """
    return [step for step, finished in _folders(model_dir) if finished]


def unfinished(model_dir: str | Path) -> list[int]:
    """Steps that have a folder which is no finished checkpoint."""
    return [step for step, finished in _folders(model_dir) if not finished]


def chosen(model_dir: str | Path, step: int | None) -> int:
    """The step, or the newest where it is None.

    Raises:
      UserError: there is no such finished checkpoint.
    """
    known = steps(model_dir)
    if not known:
        raise UserError(f"{model_dir} holds no finished checkpoint; train it first, or correct the path")
    if step is not None and step not in known:
        raise UserError(f"{model_dir} holds no checkpoint of step {step}; it has {', '.join(map(str, known))}")
    return known[-1] if step is None else step


def _folders(model_dir: str | Path) -> list[tuple[int, bool]]:
    folder = files.join(model_dir, FOLDER)
    numbers = sorted(int(name) for name in files.list_names(folder) if name.isdecimal() and name == str(int(name)))
    return [(step, _is_finished(files.join(folder, str(step)))) for step in numbers]


def _is_finished(folder: str) -> bool:
    names = files.list_names(folder)
    if UPLOAD in names or COMMIT in names:
        return COMMIT in names
    item = next((name for name in names if name == PARAMS or name.startswith(f"{PARAMS}_")), None)
    if item is None:  # the policy may be frozen, and another model train
        return False
    inside = files.list_names(files.join(folder, item))
    if "_METADATA" not in inside:  # Orbax's list of arrays; a removal that was interrupted takes it away
        return False
    if _SUCCESS in names:
        return True
    # An import writes the item alone, so the item has the commit time.
    holder = folder if _ORBAX in names else files.join(folder, item) if _ORBAX in inside else None
    return holder is not None and _committed(files.join(holder, _ORBAX))


def _committed(path: str) -> bool:
    try:
        content = json.loads(files.read_text(path))
    except ValueError:
        return False  # cut off while it was written
    return isinstance(content, dict) and content.get("commit_timestamp_nsecs") is not None
