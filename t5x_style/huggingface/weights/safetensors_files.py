"""safetensors files, one tensor at a time: headers are checked against the file, data is read and written in place.

A file: 8 bytes (length of the header, little-endian), the header (JSON: name -> dtype, shape, data_offsets), the data.
The `safetensors` package maps whole files into memory and serialises only from memory; reading and writing by position
keeps one tensor in memory whatever the size of the files, in any order.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from t5x_style.errors import UserError

DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
FLOATS = ("float32", "bfloat16", "float16")
_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
      file: where it is. name: its name there.
      kind: the format's name of its dtype, which may be one that numpy lacks. start: of its bytes in the file.
    """

    file: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def dtype(self) -> np.dtype:
        """Its dtype.

        Raises:
          UserError: one that models are not read from, such as 8-bit floats.
        """
        found = DTYPES.get(self.kind)
        if found is None or found.name not in FLOATS:
            raise UserError(
                f"{self.file}: tensor {self.name} is {self.kind}; quantised and 64-bit weights are not read: "
                "give a folder in bfloat16, float16 or float32"
            )
        return found

    def read(self) -> np.ndarray:
        """Its values, in memory of their own."""
        return np.frombuffer(self.read_bytes(), self.dtype).reshape(self.shape)

    def read_bytes(self, start: int = 0, length: int | None = None) -> bytearray:
        """Some of its bytes, all by default."""
        content = bytearray(self.nbytes - start if length is None else min(length, self.nbytes - start))
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.start + start)
            view, done = memoryview(content), 0
            while done < len(content):
                read = file.readinto(view[done:])
                if not read:
                    raise UserError(f"{self.file}: tensor {self.name} ends too early; copy the file again")
                done += read
        return content


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a file, by name.

    Raises:
      UserError: it is no safetensors file, or is cut off.
    """
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > _LONGEST_HEADER:
                raise UserError(f"{path} is no safetensors file; copy it again")
            if 8 + length > size:
                raise UserError(
                    f"{path} is cut off inside its header ({size} bytes, needs {8 + length}); copy it again"
                )
            content = file.read(length)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); change its permissions or copy it again") from error
    try:
        header = json.loads(content)
        header.pop("__metadata__", None)
        found = {name: _tensor(path, name, entry, 8 + length) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: the safetensors header is broken ({_reason(error)}); copy the file again") from error
    for tensor in found.values():
        if tensor.start + tensor.nbytes > size:
            raise UserError(
                f"{path} is cut off: tensor {tensor.name} ends at byte {tensor.start + tensor.nbytes}, the file has "
                f"{size}; copy it again"
            )
    return found


def _tensor(path: Path, name: str, entry: Mapping, base: int) -> StoredTensor:
    shape, (start, end) = tuple(int(size) for size in entry["shape"]), entry["data_offsets"]
    known = DTYPES.get(entry["dtype"])
    if start < 0 or end < start or (known is not None and math.prod(shape) * known.itemsize != end - start):
        raise ValueError(f"tensor {name} of shape {shape} has {end - start} bytes")
    return StoredTensor(path, name, entry["dtype"], shape, base + start, end - start)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def create(path: Path, tensors: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> dict[str, StoredTensor]:
    """Makes a file of the right size without data; `write` fills it in, in any order.

    Wide dtypes come first, then names in order: the layout of the `safetensors` package, so equal tensors give equal
    files.

    Returns:
      Where every tensor goes.
    """
    ordered = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    places, start = {}, 0
    for name in ordered:
        dtype, shape = tensors[name]
        nbytes = math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, start + nbytes]}
        places[name] = (start, nbytes)
        start += nbytes
    content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    content += b" " * (-len(content) % 8)
    base = 8 + len(content)
    with open(path, "wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(base + start)
    return {
        name: StoredTensor(path, name, NAMES[tensors[name][0]], tensors[name][1], base + begin, nbytes)
        for name, (begin, nbytes) in places.items()
    }


def write(place: StoredTensor, value: np.ndarray) -> None:
    """Writes the data of one tensor where `create` left room for it."""
    assert (value.shape, value.dtype) == (place.shape, place.dtype), (place, value.shape, value.dtype)
    with open(place.file, "r+b", buffering=0) as file:
        file.seek(place.start)
        rest = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        while rest:
            rest = rest[file.write(rest) :]


def shards(sizes: Sequence[tuple[str, int]], limit: int) -> list[list[str]]:
    """Names in order, split into files of at most `limit` bytes; a larger tensor gets a file of its own.

    Example:
      shards([("a", 3), ("b", 3), ("c", 9), ("d", 1)], 6) == [["a", "b"], ["c"], ["d"]]
    """
    found: list[list[str]] = [[]]
    held = 0
    for name, size in sizes:
        if found[-1] and held + size > limit:
            found.append([])
            held = 0
        found[-1].append(name)
        held += size
    return found


def sync(path: Path) -> None:
    """Waits until a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
