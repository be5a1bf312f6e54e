"""Files with one entry a line, plain or gzip, local or remote."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import IO

from beam_pipelines.files import storage
from t5x_style.errors import UserError

_CHUNK_BYTES = 1 << 22


def read_chunks(path: str) -> Iterator[bytes]:
    """The content in pieces of about 4 MB that end with a line's end (the last may not).

    Raises:
      UserError: the file is missing or its gzip data is damaged.
    """
    with _open(path) as raw:
        first = raw.read(2)
        raw.seek(0)
        file: IO[bytes] = gzip.GzipFile(fileobj=raw) if first == b"\x1f\x8b" else raw  # type: ignore[assignment]
        rest = b""
        while True:
            try:
                piece = file.read(_CHUNK_BYTES)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UserError(f"{path}: damaged gzip data ({error}); copy the file again") from error
            if not piece:
                break
            head, line_end, tail = (rest + piece).rpartition(b"\n")
            rest = tail
            if head or line_end:
                yield head + line_end
        if rest:
            yield rest


def read_lines(path: str) -> list[str]:
    """Stripped lines, without blank ones and those that start with `#`; a byte order mark is dropped.

    Raises:
      UserError: as in `read_chunks`, or the file is not UTF-8.
    """
    try:
        text = b"".join(read_chunks(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error}); convert it") from error
    return [line for raw in text.split("\n") if (line := raw.strip()) and not line.startswith("#")]


def digest(paths: Sequence[str]) -> str:
    """32 hex characters that change with any byte of the files.

    Raises:
      UserError: a file is missing.
    """
    total = hashlib.blake2b(digest_size=16)
    for path in paths:
        each = hashlib.blake2b(digest_size=16)
        with _open(path) as file:
            while piece := file.read(_CHUNK_BYTES):
                each.update(piece)
        total.update(each.digest())
    return total.hexdigest()


def _open(path: str) -> IO[bytes]:
    try:
        return storage.open_read(path)
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give a file") from error
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; check the path of the list") from error
