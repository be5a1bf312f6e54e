"""A job's units and function as files that the workers of a cluster read: its graph then holds a few names only.

Dataflow refuses graphs over 10 MB, and 90,000 units with their paths, or a function that names them all, are more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit

CHUNK_UNITS = 1000  # a file of about 200 kB


@dataclass(frozen=True)
class StoredFunction:
    """Calls the function that lies pickled at `path`; it is loaded once per process."""

    path: str

    def __call__(self, *arguments: Any) -> Any:
        """Calls it."""
        return _load(self.path)(*arguments)


@lru_cache(maxsize=4)
def _load(path: str) -> Callable[..., Any]:
    import pickle

    with storage.open_read(path) as file:
        return pickle.load(file)


def store_function(function: Callable[..., Any], folder: str) -> StoredFunction:
    """Writes a function to `folder` under a name that its content gives."""
    import cloudpickle  # Beam's own pickler: takes functions that a Beam graph takes

    content = cloudpickle.dumps(function)
    path = storage.join(folder, f"{blake2b(content, digest_size=16).hexdigest()}.function")
    with storage.atomic_writer(path) as file:
        file.write(content)
    return StoredFunction(path)


def store_units(units: Sequence[Unit], folder: str) -> list[str]:
    """Writes units to files in `folder`, `CHUNK_UNITS` in each: their paths."""
    paths = []
    for start in range(0, len(units), CHUNK_UNITS):
        chunk = [[unit.name, unit.fingerprint, dict(unit.arguments)] for unit in units[start : start + CHUNK_UNITS]]
        content = json.dumps(chunk).encode("utf-8")
        paths.append(storage.join(folder, f"{blake2b(content, digest_size=16).hexdigest()}.units"))
        with storage.atomic_writer(paths[-1]) as file:
            file.write(content)
    return paths


def load_batches(path: str) -> list[list[Unit]]:
    """The units of one file, each a batch of its own (see `Runner.batches`)."""
    with storage.open_read(path) as file:
        return [[Unit(*values)] for values in json.load(file)]


def clear(folder: str) -> None:
    """Deletes what `store_function` and `store_units` wrote, and what killed drivers left."""
    for suffix in (".function", ".units"):
        for name in storage.list_files(folder, suffix):
            storage.delete(storage.join(folder, name))
    storage.remove_temporaries(folder)
