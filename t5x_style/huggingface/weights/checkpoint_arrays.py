"""The parameters of a checkpoint, written and read piece by piece, so that a model larger than memory goes through.

Orbax saves and restores whole arrays. Here it writes a checkpoint of the right tree with one number a parameter, in its
form of one zarr folder a parameter; the zarr arrays are then made anew in their real shapes and filled through
TensorStore, which is what Orbax uses underneath. `training.checkpoints` reads the result as any other checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from t5x_style.checkpoints import parameters
from t5x_style.errors import UserError

# One file of an array. Arrays up to this size are collected and written whole; of larger ones every layer is a file or
# several. Readers hold a few of these beside what they read.
CHUNK = 16 << 20
_METADATA = "_METADATA"
# Nothing is kept after use, and few pieces are in flight.
_CONTEXT = {
    "cache_pool": {"total_bytes_limit": 0},
    "file_io_concurrency": {"limit": 4},
    "data_copy_concurrency": {"limit": 4},
}


class Writer:
    """Writes the item `params` of one step."""

    def __init__(self, folder: Path, arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]]):
        """Makes the checkpoint without data.

        Args:
          folder: MODEL_DIR/checkpoints/<step>/params; must not exist.
          arrays: (shape, dtype) of every parameter, by path.
        """
        self._folder, self._arrays = folder.absolute(), dict(arrays)
        self._collected: dict[str, tuple[np.ndarray, int]] = {}
        tree = parameters.nested({path: np.zeros(1, dtype) for path, (_, dtype) in arrays.items()})
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
            checkpointer.save(self._folder, args=ocp.args.PyTreeSave(tree))
        self._stores: dict[str, Any] = {}

    def write(self, path: str, place: tuple[int, ...], value: np.ndarray) -> None:
        """Writes one piece; every piece of every parameter must come once.

        Args:
          path: the parameter's. place: (), (layer,), (expert,) or (layer, expert). value: the parameter there.
        """
        shape, dtype = self._arrays[path]
        if place and math.prod(shape) * dtype.itemsize <= CHUNK:
            whole, count = self._collected.pop(path, (np.empty(shape, dtype), 0))
            whole[place] = value
            if count + 1 < math.prod(shape[: len(place)]):
                self._collected[path] = whole, count + 1
                return
            place, value = (), whole
        if path not in self._stores:
            self._stores[path] = self._create(path, len(place))
        self._stores[path][place].write(value).result()

    def finish(self) -> None:
        """Raises AssertionError where pieces are missing."""
        assert not self._collected, sorted(self._collected)
        assert set(self._stores) == set(self._arrays), sorted(set(self._arrays) - set(self._stores))

    def _create(self, path: str, stacked: int) -> Any:
        import tensorstore

        shape, dtype = self._arrays[path]
        spec = {
            "driver": "zarr",
            "kvstore": {"driver": "file", "path": str(self._folder / path.replace("/", "."))},
            "dtype": dtype.name,
            "metadata": {
                "shape": shape,
                "chunks": chunk_shape(shape, dtype.itemsize, stacked),
                "compressor": {"id": "zstd", "level": 1},
            },
            "store_data_equal_to_fill_value": True,  # Orbax takes a missing chunk for a damaged checkpoint
        }
        context = tensorstore.Context(_CONTEXT)
        return tensorstore.open(spec, create=True, delete_existing=True, context=context).result()


def chunk_shape(shape: Sequence[int], itemsize: int, stacked: int) -> tuple[int, ...]:
    """The part of an array that is one file: one of the stacked pieces, or rows of it so that it is at most CHUNK.

    Example, CHUNK of 16 MiB:
      chunk_shape((32, 4096, 11008), 2, 1) == (1, 683, 11008)
    """
    chunk = [1] * stacked + [max(1, size) for size in shape[stacked:]]
    for axis in range(stacked, len(chunk)):
        chunk[axis] = -(-chunk[axis] // -(-math.prod(chunk) * itemsize // CHUNK))
    return tuple(chunk)


class Reader:
    """The parameters of one checkpoint, whoever wrote it.

    Attributes:
      shapes, dtypes: of every parameter, by path.
    """

    def __init__(self, folder: Path, prefix: str = ""):
        """Reads the list of parameters.

        Args:
          folder: MODEL_DIR/checkpoints/<step>/params, or another tree of arrays.
          prefix: only those whose names begin with it count, by what follows.

        Raises:
          UserError: there is no readable checkpoint.
        """
        self._folder, self._prefix = folder.absolute(), prefix
        try:
            tree = ocp.PyTreeCheckpointHandler().metadata(self._folder).tree
            flat = parameters.flat(dict(tree))
            leaves = {path.removeprefix(prefix): leaf for path, leaf in flat.items() if path.startswith(prefix)}
            settings = json.loads((self._folder / _METADATA).read_text())
        except (ValueError, KeyError, AttributeError, OSError) as error:
            raise UserError(f"{folder} is no readable checkpoint ({str(error).splitlines()[0]})") from error
        self._driver = "zarr3" if settings.get("use_zarr3") else "zarr"
        self.shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
        self.dtypes = {path: np.dtype(leaf.dtype) for path, leaf in leaves.items()}

    def open(self, path: str) -> StoredArray:
        """A parameter that is read when it is indexed.

        Raises:
          UserError: its files are missing.
        """
        import tensorstore

        name, base = (self._prefix + path).replace("/", "."), str(self._folder)
        kvstore: dict[str, Any] = {"driver": "file", "path": f"{base}/{name}"}
        if (self._folder / "manifest.ocdbt").exists():
            kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{base}/"}, "path": f"{name}/"}
        spec = {"driver": self._driver, "kvstore": kvstore, "fill_missing_data_reads": False}
        source = f"{self._folder}: parameter {path}"
        with _damage_told(source):
            store = tensorstore.open(spec, open=True, context=tensorstore.Context(_CONTEXT)).result()
        return StoredArray(store, source)


class Readers:
    """Several trees of arrays as one: what trained, then what was frozen; the first that has a parameter counts.

    Attributes:
      shapes, dtypes: as of `Reader`.
    """

    def __init__(self, places: Sequence[tuple[str, str]]):
        """Args: (folder, prefix) of each, as `checkpoints.params_folders` gives them. Raises as `Reader`."""
        self._of: dict[str, Reader] = {}
        for folder, prefix in places:
            reader = Reader(Path(folder), prefix)
            self._of |= {path: reader for path in reader.shapes if path not in self._of}
        self.shapes = {path: reader.shapes[path] for path, reader in self._of.items()}
        self.dtypes = {path: reader.dtypes[path] for path, reader in self._of.items()}

    def open(self, path: str) -> StoredArray:
        """See `Reader.open`."""
        return self._of[path].open(path)


class StoredArray:
    """A parameter on disk. `array[place]` reads that piece; where files hold several pieces, all at the first time."""

    def __init__(self, store: Any, source: str):
        self._store, self._source = store, source
        self._whole: np.ndarray | None = None

    def __getitem__(self, place: tuple[int, ...]) -> np.ndarray:
        """The piece at (), (layer,), (expert,) or (layer, expert).

        Raises:
          UserError: the files are damaged.
        """
        if self._whole is not None:
            return self._whole[place]
        files = self._store.chunk_layout.read_chunk.shape[: len(place)]
        with _damage_told(self._source):
            if all(size == 1 for size in files):
                return self._store[place].read().result()
            self._whole = self._store.read().result()
        return self._whole[place]


@contextlib.contextmanager
def _damage_told(source: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UserError(f"{source} cannot be read ({str(error).splitlines()[0]}); copy it again") from error
