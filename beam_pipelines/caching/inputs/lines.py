"""Lines of a file by byte ranges: whatever the cuts, every line is read exactly once."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from typing import IO, Any

from beam_pipelines.files import storage
from t5x_style.errors import UserError

COMPRESSED = (".gz", ".zst")
_CHUNK_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(path: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of every line whose first byte lies in [start, end).

    Args:
      path: plain, .gz or .zst; a compressed file can be read from its beginning only.
      start, end: in bytes; end None: up to the end of the file.

    Example, the file "ab\\ncd\\n": [0, 1) gives (0, "ab\\n"), [1, 4) gives (3, "cd\\n"), [4, 6) gives nothing.

    Raises:
      UserError: the compressed data is damaged or cut off.
    """
    with opened(path) as file:
        position = 0
        if start:
            # Of a line that begins before `start` this reads the rest; at a line's beginning, the line end before it.
            file.seek(start - 1)
            position = start - 1 + len(file.readline())
        while end is None or position < end:
            line = file.readline()
            if not line:
                return
            yield position, line.removeprefix(_BYTE_ORDER_MARK) if position == 0 else line
            position += len(line)


def line_number(path: str, offset: int) -> int:
    """Number of the line, counted from 1, that begins at `offset` of the (decompressed) file."""
    number = 1
    with opened(path) as file:
        while offset > 0 and (chunk := file.read(min(offset, _CHUNK_BYTES))):
            number += chunk.count(b"\n")
            offset -= len(chunk)
    return number


@contextlib.contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed by the ending of its name; what is damaged raises UserError."""
    import zstandard

    with storage.open_read(path) as raw:
        file: Any = raw
        if path.endswith(".gz"):
            file = gzip.GzipFile(fileobj=raw)
        elif path.endswith(".zst"):
            file = io.BufferedReader(_Zstandard(raw), _CHUNK_BYTES)
        try:
            yield file
        except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise UserError(f"{path}: damaged compressed data ({error}); copy the file again") from error


class _Zstandard(io.RawIOBase):
    """Frame after frame; zstandard's own reader takes a file that is cut off for a whole one."""

    def __init__(self, raw: IO[bytes]):
        self._raw = raw
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        import zstandard

        while not self._output:
            self._input = self._input or self._raw.read(_CHUNK_BYTES)
            if not self._input:
                if self._frame is not None:
                    raise EOFError("the file ends within a frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._output = self._frame.decompress(self._input)
            self._input = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        given, self._output = self._output[: len(buffer)], self._output[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)
