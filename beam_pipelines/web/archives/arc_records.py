"""ARC files (versions 1 and 2), the format before WARC: https://archive.org/web/researcher/ArcFileFormat.php."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from beam_pipelines.web.archives.archive_entry import Entry

# The address may hold spaces; between type and length version 2 has code, checksum, location, offset and file name.
_HEADER = re.compile(rb"(\S.*?) ([0-9A-Fa-f.:]+|-) (\d{12,17}) (\S+)((?: \S+)*) (\d{1,18})\s*")
_LONGEST_HEADER = 1 << 16
_SKIP_BYTES = 1 << 20


def decompressed(stream: Any, compression: str) -> Any:
    """A reader of the content of all members; the stream itself if `compression` is ``."""
    from fastwarc.stream_io import GzipReader, Lz4Reader, ZstdReader

    readers = {"gzip": GzipReader, "lz4": Lz4Reader, "zstd": ZstdReader}
    return readers[compression](stream) if compression else stream


def arc_entries(stream: Any, compression: str, block_limit: int) -> Iterator[Entry]:
    """The records of an ARC file as FastWARC records with a translated header.

    Args:
      stream: from the start of a record on.
      compression: as for `decompressed`.
      block_limit: bytes of one record that are held in memory; the rest is skipped.

    Raises:
      ValueError: what comes next is no record header.
      OSError: the compressed data is damaged.
    """
    reader = decompressed(stream, compression)
    while True:
        line, offset = _header_line(reader, bool(compression))
        if not line:
            return
        match = _HEADER.fullmatch(line)
        if match is None:
            raise ValueError(f"Invalid ARC header {line[:80]!r}")
        length = int(match.group(6))
        block = reader.read(min(length, block_limit))
        left_out = length - len(block)
        cut = len(block) < min(length, block_limit)
        record, kind = _warc_record(match, block)
        entry = Entry(record, kind, offset, left_out, cut)
        yield entry
        while left_out and not cut:
            skipped = len(reader.read(min(left_out, _SKIP_BYTES)))
            left_out, cut = left_out - skipped, not skipped
        if cut:
            raise ValueError("the file ends inside a record")


def _header_line(reader: Any, compressed: bool) -> tuple[bytes, int]:
    """The next line that is not blank, b"" at the end, and its offset in the file (of its member, if compressed).

    Read byte by byte: a larger piece could reach into the next member and its offset be taken for this one's.
    """
    line, offset = bytearray(), 0
    while byte := reader.read(1):
        if byte == b"\n" and line:
            break
        if not line:
            if byte in b"\r\n":
                continue
            offset = reader.frame_start_position() if compressed else reader.tell() - 1
        line += byte
        if len(line) > _LONGEST_HEADER:
            raise ValueError("Invalid ARC header: no end of line")
    return bytes(line), offset


def _warc_record(match: re.Match[bytes], block: bytes) -> tuple[Any, str]:
    from fastwarc.warc import WarcRecord, WarcRecordType

    url, _, date, content_type = (part.decode("utf-8", "replace") for part in match.groups()[:4])
    if url.startswith("filedesc:"):
        kind = "warcinfo"
    else:
        kind = "response" if block.startswith(b"HTTP/") else "resource"
    record = WarcRecord()
    record.init_headers(getattr(WarcRecordType, kind), content_length=len(block))
    record.headers["WARC-Target-URI"] = url
    record.headers["WARC-Date"] = _iso_date(date)
    record.headers["Content-Type"] = "application/http; msgtype=response" if kind == "response" else content_type
    record.set_bytes_content(block)
    record.is_http = kind == "response"
    return record, kind


def _iso_date(digits: str) -> str:
    """Example: "20240501123000" -> "2024-05-01T12:30:00Z"."""
    d = digits.ljust(14, "0")
    return f"{d[:4]}-{d[4:6]}-{d[6:8]}T{d[8:10]}:{d[10:12]}:{d[12:14]}Z"
