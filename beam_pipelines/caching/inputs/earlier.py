"""What an earlier run left in the folder of a cache: its settings and its inputs, and what may not follow them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_pipelines.caching.inputs.options import InputOptions
from beam_pipelines.files import storage
from t5x_style.data.manifest import MANIFEST_FILE
from t5x_style.errors import UserError

SETTINGS_FILE = "settings.json"
INPUTS = "inputs"  # beside the settings: noted, but files may come, go and change


def read_settings(job_folder: str) -> dict[str, Any]:
    """Settings and inputs of the last run; {} where there was none."""
    path = storage.join(job_folder, SETTINGS_FILE)
    return storage.read_json(path) if storage.exists(path) else {}


def write_settings(job_folder: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Notes both before the first unit runs."""
    storage.write_json(storage.join(job_folder, SETTINGS_FILE), {**settings, INPUTS: dict(inputs)})


def describe_inputs(patterns: Sequence[str], paths: Sequence[str]) -> dict[str, Any]:
    """What tells inputs from others: the globs, and the bytes of every file.

    Example: {"patterns": ["/mine/*.jsonl"], "files": {"/mine/one.jsonl": 1200}}
    """
    return {
        "patterns": [_absolute(pattern) for pattern in patterns],
        "files": {_absolute(path): size for path, size in zip(paths, storage.sizes(paths), strict=True)},
    }


def _absolute(path: str) -> str:
    return os.path.abspath(path) if storage.is_local(path) else path


def check_same(
    options: InputOptions, job_folder: str, before: Mapping[str, Any], settings: Mapping[str, Any], inputs: Any
) -> None:
    """Refuses to replace a finished cache by one of other inputs or settings; what a failed run left is made again.

    Raises:
      UserError: one line that names what is there and what was to replace it.
    """
    folder = Path(options.output) / options.name
    if not any(folder.glob(f"*/{MANIFEST_FILE}")):
        return
    noted = before.get(INPUTS)
    if noted and not _overlap(noted, inputs):
        raise UserError(
            f"{folder} holds the cache of {_names(noted['files'])}, and none of its files is among those of this "
            f"command, {_names(inputs['files'])}: give --name OTHER or another --output "
            f"(to replace it, delete {folder} and {job_folder})"
        )
    earlier = {key: value for key, value in before.items() if key != INPUTS}
    if earlier == settings:
        return
    changed = [
        f"{key} {earlier.get(key)!r}, now {settings[key]!r}"
        for key in settings
        if earlier and earlier.get(key) != settings[key]
    ]
    what = "; ".join(changed) if changed else "it was not made from --input files"
    raise UserError(f"{folder} holds another cache ({what}); delete it, or give another --output or --name")


def _overlap(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a glob or a file is the same; a file elsewhere with its name and size was moved."""
    if set(before["patterns"]) & set(now["patterns"]) or before["files"].keys() & now["files"].keys():
        return True
    earlier, present = (
        {(posixpath.basename(path), size) for path, size in each["files"].items()} for each in (before, now)
    )
    return bool(earlier & present)


def _names(files: Mapping[str, int]) -> str:
    """The first file, and how many others."""
    first = next(iter(files))
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"
