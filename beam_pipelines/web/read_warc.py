"""Reading WARC and WET files with FastWARC; whatever is wrong with a record is counted, never fatal."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from beam_pipelines import storage
from beam_pipelines.web.document import Page, Unreadable, record_id, valid_text

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
PAGE_RECORDS = frozenset({"response", "resource", "conversion"})
_GZIP, _LZ4, _ZSTD, _PLAIN = b"\x1f\x8b\x08", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd", b"\nWARC/1."
_SEARCH_BYTES = 1 << 20
_BROKEN = (OSError, ValueError, EOFError)  # what FastWARC raises on bad records


class _ReadFailed(RuntimeError):
    """The storage failed, not the record: this must end the job, a rerun may succeed."""


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
            raise _ReadFailed(f"reading at byte {self._stream.tell()} failed: {error}") from error

    def tell(self) -> int:
        return self._stream.tell() - self._start


@dataclass(frozen=True)
class ReadWarc:
    """Reads the pages of one file: HTTP responses that are HTML, and the plain text of WET files.

    Attributes:
      source: the documents' `source` column.
      max_page_bytes: longer payloads are rejected, so that neither a huge page nor a compression bomb fills memory.
      statuses: HTTP status codes that are read.
    """

    source: str = "web"
    max_page_bytes: int = 16_000_000
    statuses: Sequence[int] = (200,)
    name: str = "read"

    def pages(self, path: str, file: str, records: Counter[str]) -> Iterator[Page | Unreadable]:
        """Pages and unreadable records of the file at `path`, in their order.

        After a break, reading goes on at the next record that can be found (the next gzip member, say), so that one
        damaged record does not cost the rest of the file.

        Args:
          path: where to read.
          file: the file's name in ids and metadata.
          records: counts of records by WARC type; added to.

        Raises:
          OSError: the file cannot be opened.
        """
        from fastwarc.warc import ArchiveIterator, any_type

        with storage.open_read(path) as stream:
            marker = _marker(stream, file)
            start: int | None = 0
            position, broken = 0, False
            while start is not None:
                reader = iter(ArchiveIterator(_Tail(stream, start), record_types=any_type, parse_http=False))
                while True:
                    try:
                        record = next(reader)
                    except StopIteration:
                        start = None
                        # FastWARC takes a compressed record that is cut off inside its header for the end.
                        rest = _next_record(stream, marker, position + 1) if marker != _PLAIN and not broken else None
                        if rest is not None and records:
                            records["broken"] += 1
                            yield self._unreadable(file, rest, None, "broken_record", "the file ends inside a record")
                        break
                    except _BROKEN as error:
                        if not broken:  # one report for a break, however many attempts it takes to get past it
                            records["broken"] += 1
                            yield self._unreadable(file, position, None, "broken_record", str(error))
                        broken, position = True, max(position, start)
                        start = _next_record(stream, marker, position + 1)
                        break
                    broken, position = False, start + record.stream_pos
                    kind = str(record.record_type)
                    records[kind] += 1
                    if kind in PAGE_RECORDS:
                        page = self._page(record, kind, file, position)
                        broken = isinstance(page, Unreadable) and page.reason == "broken_record"
                        yield page
            if not records:
                yield self._unreadable(file, 0, None, "no_records", "the file holds no WARC record")

    def _page(self, record: Any, kind: str, file: str, offset: int) -> Page | Unreadable:
        """One record's page, or why there is none."""

        def unreadable(reason: str, detail: str, value: float | None = None) -> Unreadable:
            return self._unreadable(file, offset, record, reason, detail, value)

        try:
            if kind == "response" and record.is_http:
                record.parse_http(auto_decode="none", quirks_mode=True)  # headers that end in a bare LF too
            http = record.http_headers
            if http is not None and http.status_code not in self.statuses:
                return unreadable("http_status", str(http.status_code), http.status_code)
            raw = record.reader.read(self.max_page_bytes + 1)
            mime = _content_type(record, kind)
            html = mime in HTML_TYPES or (not mime and b"<html" in raw[:4096].lower())
            if not html and kind != "conversion":
                return unreadable("content_type", mime or "none")
            if len(raw) > self.max_page_bytes:
                return unreadable("too_long", f"over {self.max_page_bytes} bytes", record.content_length)
            if len(raw) < record.content_length:
                return unreadable("truncated", f"{record.content_length} bytes were declared", len(raw))
            content = raw if http is None else _decoded(http, raw, self.max_page_bytes + 1)
            charset = "utf-8" if kind == "conversion" else "" if http is None else record.http_charset or ""
        except _BROKEN as error:
            return unreadable("broken_record", str(error))
        if len(content) > self.max_page_bytes:
            return unreadable("too_long", f"over {self.max_page_bytes} bytes when decoded", len(content))
        if not content.strip(b" \t\r\n\0"):
            return unreadable("empty_page", "")
        url, date = _url_and_date(record)
        return Page(record_id(file, offset), file, offset, self.source, url, date, content, charset, html)

    def _unreadable(
        self, file: str, offset: int, record: Any, reason: str, detail: str, value: float | None = None
    ) -> Unreadable:
        url, date = ("", "") if record is None else _url_and_date(record)
        key = record_id(file, offset)
        return Unreadable(key, file, offset, self.source, url, date, reason, value, valid_text(detail))


def _url_and_date(record: Any) -> tuple[str, str]:
    url = (record.headers.get("WARC-Target-URI") or "").strip()
    if url.startswith("<") and url.endswith(">"):  # some versions of wget write it so
        url = url[1:-1]
    return valid_text(url), valid_text(record.headers.get("WARC-Date") or "")


def _content_type(record: Any, kind: str) -> str:
    if kind == "conversion":
        return "text/plain"
    if record.http_headers is not None:
        return (record.http_content_type or "").lower()
    return (record.headers.get("Content-Type") or "").split(";")[0].strip().lower()


def _decoded(http: Any, raw: bytes, limit: int) -> bytes:
    """The payload with transfer and content encodings undone, at most `limit` bytes.

    Many crawlers store decoded payloads under the headers of the encoded ones, so a payload that is not in the
    declared encoding is taken as it is.
    """
    from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader

    if "chunked" in (http.get("Transfer-Encoding") or "").lower():
        with contextlib.suppress(*_BROKEN):  # stored without chunks
            raw = ChunkedReader(io.BytesIO(raw)).read(limit) or raw
    encoding = (http.get("Content-Encoding") or "").strip().lower()
    if encoding in ("gzip", "x-gzip") and raw.startswith(b"\x1f\x8b"):
        return GzipReader(io.BytesIO(raw)).read(limit)
    if encoding == "br" and b"<" not in raw[:256]:
        return BrotliReader(io.BytesIO(raw)).read(limit)
    if encoding == "deflate":
        return _inflated(raw, limit)
    return raw


def _inflated(raw: bytes, limit: int) -> bytes:
    """zlib or raw deflate (servers send both under the same name); anything else as it is."""
    import zlib

    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(bits).decompress(raw, limit)
        except zlib.error:
            continue
    return raw


def _marker(stream: IO[bytes], file: str) -> bytes:
    """The bytes that a record of this file starts with, by the file's first bytes or else its name."""
    first = stream.read(4)
    for magic, suffix in ((_GZIP, ".gz"), (_LZ4, ".lz4"), (_ZSTD, ".zst")):
        if first.startswith(magic) or (first != b"WARC" and file.endswith(suffix)):
            return magic
    return _PLAIN


def _next_record(stream: IO[bytes], marker: bytes, start: int) -> int | None:
    """Position of the next possible record at or behind `start`, None if there is none."""
    stream.seek(start)
    base, tail = start, b""
    while chunk := stream.read(_SEARCH_BYTES):
        window = tail + chunk
        found = window.find(marker)
        if found >= 0:
            return base + found + (1 if marker == _PLAIN else 0)
        tail = window[-(len(marker) - 1) :]
        base += len(window) - len(tail)
    return None
