"""The records of WARC and ARC files, whatever is wrong with some of them: after a break, reading goes on behind it."""

from __future__ import annotations

import contextlib
import io
import re
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from beam_pipelines.web.archives.arc_records import arc_entries, decompressed
from beam_pipelines.web.archives.archive_entry import BROKEN, Entry
from beam_pipelines.web.document import record_id

_MAGIC = {"gzip": b"\x1f\x8b\x08", "lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}
_SUFFIXES = {".gz": "gzip", ".lz4": "lz4", ".zst": "zstd"}
_RECORD_STARTS = {name: re.compile(re.escape(magic)) for name, magic in _MAGIC.items()}
_RECORD_STARTS["warc"] = re.compile(rb"(?<=\n)WARC/1\.")
# "http://x/ 1.2.3.4 20240501000000 text/html 1234": address, IP, date, type, (in version 2: five more,) length.
_RECORD_STARTS["arc"] = re.compile(
    rb"(?<=\n)[a-z][a-z0-9+.-]*:[^\n]{1,4000} [0-9a-f.:]+ \d{12,17} [^\n]{1,500} \d+\r?\n"
)
_SEARCH_BYTES, _LONGEST_START = 1 << 20, 5000


class ReadFailed(RuntimeError):
    """The storage failed, not the record: this must end the job, a rerun may succeed."""


class Broken(NamedTuple):
    """A place where no record could be read.

    Attributes:
      id: differs from those of all records.
      offset: of the broken record, or of the last good one before it where its own is not known.
    """

    id: str
    offset: int
    reason: str
    detail: str


class _Tail(io.RawIOBase):
    """A stream from one of its positions on, that tells storage errors from format errors."""

    def __init__(self, stream: IO[bytes], start: int):
        super().__init__()
        self._stream, self._start = stream, start
        stream.seek(start)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except OSError as error:
            raise ReadFailed(f"reading at byte {self._stream.tell()} failed: {error}") from error

    def tell(self) -> int:
        return self._stream.tell() - self._start


def archive_records(stream: IO[bytes], file: str, block_limit: int) -> Iterator[Entry | Broken]:
    """Records and breaks of an archive, in their order; WARC or ARC and the compression are told from the content.

    A record that is cut short is given all the same, with `is_whole()` false. After it and after a break the search
    for the next record starts right behind its own first byte, since its length may be wrong and cover good records.

    Args:
      stream: seekable.
      file: the file's name in ids; its suffix decides where the content says nothing.
      block_limit: bytes of one ARC record that are held in memory.

    Raises:
      ReadFailed: the storage failed.
    """
    compression = _compression(stream, file)
    arc = _is_arc(stream, compression, file)
    starts = _RECORD_STARTS[compression or ("arc" if arc else "warc")]
    start: int | None = 0
    position = ordinal = -1  # of the last record: its offset, and its number among those with the same offset
    pending: Broken | None = None  # reported once it is clear where the broken record starts
    resuming = False  # behind a break: one report for it, however many attempts it takes to get past it
    while start is not None:
        entries = _entries(_Tail(stream, start), arc, compression, block_limit)
        first = True
        while True:
            try:
                entry = next(entries)
            except StopIteration:
                if not resuming and compression == "gzip" and (end := _leftover(stream, position)) is not None:
                    yield _broken(file, end, "the file ends inside a record")
                start = None
                break
            except BROKEN as error:
                if first and (pending or not resuming):
                    yield _broken(file, start, str(error))
                    pending = None
                elif not resuming:
                    pending = _broken(file, position, f"behind the record at byte {position}: {error}")
                resuming, position = True, max(position, start)
                start = _next_start(stream, starts, position + 1)
                break
            if pending:
                yield pending
                pending = None
            first, resuming, entry.offset = False, False, entry.offset + start
            ordinal = ordinal + 1 if entry.offset == position else 0
            position = entry.offset
            entry.id = record_id(f"{file}\0{ordinal}" if ordinal else file, position)
            yield entry
            if not entry.is_whole():
                resuming = True
                start = _next_start(stream, starts, position + 1)
                break
    if pending:
        yield pending


def _entries(tail: _Tail, arc: bool, compression: str, block_limit: int) -> Iterator[Entry]:
    if arc:
        yield from arc_entries(tail, compression, block_limit)
        return
    from fastwarc.warc import ArchiveIterator, any_type

    for record in ArchiveIterator(tail, record_types=any_type, parse_http=False):
        cut = not (record.headers.get("Content-Length") or "").strip().isdigit()  # the header is cut off, say
        yield Entry(record, str(record.record_type), record.stream_pos, cut=cut)


def _broken(file: str, offset: int, detail: str) -> Broken:
    return Broken(record_id(f"{file}\0broken", offset), max(offset, 0), "broken_record", detail)


def _compression(stream: IO[bytes], file: str) -> str:
    """`gzip`, `lz4`, `zstd` or `` by the file's first bytes; by its suffix where they say nothing."""
    first = _Tail(stream, 0).read(9)
    for name, magic in _MAGIC.items():
        if first.startswith(magic):
            return name
    if first.startswith((b"WARC", b"filedesc:")):
        return ""
    return next((name for suffix, name in _SUFFIXES.items() if file.endswith(suffix)), "")


def _is_arc(stream: IO[bytes], compression: str, file: str) -> bool:
    first = b""
    with contextlib.suppress(*BROKEN):  # damage behind the first line is none of it
        reader = decompressed(_Tail(stream, 0), compression)
        while len(first) < _LONGEST_START and b"\n" not in first and (piece := reader.read(32)):
            first += piece
    if first.startswith(b"WARC"):
        return False
    return ".arc" in file or _RECORD_STARTS["arc"].match(b"\n" + first, 1) is not None


def _next_start(stream: IO[bytes], starts: re.Pattern[bytes], position: int) -> int | None:
    """Position of the next possible record at or behind `position`, None if there is none."""
    base = max(position - 1, 0)  # one byte before, for the patterns that look behind
    tail, window = _Tail(stream, base), b""
    while chunk := tail.read(_SEARCH_BYTES):
        window += chunk
        if found := starts.search(window, position - base if base < position else 0):
            return base + found.start()
        base += max(len(window) - _LONGEST_START, 0)
        window = window[-_LONGEST_START:]
    return None


def _leftover(stream: IO[bytes], position: int) -> int | None:
    """Where the gzip member at `position` ends, if anything follows; None if nothing does or it cannot be read.

    FastWARC takes a compressed record that is cut off inside its header for the end of the file.
    """
    decompress = zlib.decompressobj(wbits=31)
    tail, end = _Tail(stream, max(position, 0)), max(position, 0)
    data = b""
    while not decompress.eof:
        data = decompress.unconsumed_tail or tail.read(_SEARCH_BYTES)
        if not data:
            return None
        try:
            decompress.decompress(data, _SEARCH_BYTES)
        except zlib.error:
            return None
        end += len(data) - len(decompress.unconsumed_tail)
    end -= len(decompress.unused_data)
    rest = decompress.unused_data or tail.read(_SEARCH_BYTES)
    return end if rest else None
