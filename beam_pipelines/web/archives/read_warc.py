"""Reading WARC, WET and ARC files; whatever is wrong with a record is counted, never fatal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.web.archives.archive_entry import BROKEN, Entry
from beam_pipelines.web.archives.archive_records import Broken, archive_records
from beam_pipelines.web.archives.payload import HTML_TYPES, content_type, decoded
from beam_pipelines.web.document import Page, Unreadable, record_id
from t5x_style.errors import UserError

PAGE_RECORDS = frozenset({"response", "resource", "conversion"})
_HEADER_ROOM = 1 << 16  # bytes of HTTP headers, beside the page


@dataclass(frozen=True)
class ReadWarc:
    """Reads the pages of one file: HTTP responses that are HTML, and the plain text of WET files.

    Files are WARC (with WET; the records of WAT files are counted, they are no pages) or ARC, plain or compressed with
    gzip, lz4 or zstd, whatever their name says.

    Attributes:
      source: the documents' `source` column.
      max_page_bytes: longer payloads are rejected, so that neither a huge page nor a compression bomb fills memory.
      statuses: HTTP status codes that are read.

    Raises:
      UserError: a parameter makes no sense.
    """

    source: str = "web"
    max_page_bytes: int = 16_000_000
    statuses: Sequence[int] = (200,)
    name: str = "read"

    def __post_init__(self) -> None:
        if self.max_page_bytes < 1:
            raise UserError(f"ReadWarc.max_page_bytes is {self.max_page_bytes}; give a number of bytes above 0")
        if not self.statuses:
            raise UserError("ReadWarc.statuses is empty, so that no page would be read; give [200]")

    def pages(self, path: str, file: str, records: Counter[str]) -> Iterator[Page | Unreadable]:
        """Pages and unreadable records of the file at `path`, in their order.

        After a break, reading goes on at the next record that can be found (the next gzip member, say), so that one
        damaged record does not cost the rest of the file.

        Args:
          path: where to read.
          file: the file's name in ids and metadata.
          records: counts of records by WARC type; added to. `broken` counts breaks.

        Raises:
          OSError: the file cannot be opened.
          ReadFailed: its storage failed while it was read.
        """
        with storage.open_read(path) as stream:
            for item in archive_records(stream, file, self.max_page_bytes + _HEADER_ROOM):
                if isinstance(item, Broken):
                    records["broken"] += 1
                    yield self._unreadable(file, item.id, item.offset, None, item.reason, item.detail)
                    continue
                records[item.kind] += 1
                if item.kind in PAGE_RECORDS:
                    yield self._page(item, file)
                elif not item.is_whole():
                    detail = item.error or f"a {item.kind} record of {item.taken} bytes, {_length(item)} were declared"
                    yield self._unreadable(file, item.id, item.offset, item, "truncated", detail, item.taken)
            if not records:
                yield self._unreadable(file, record_id(file, 0), 0, None, "no_records", "the file holds no record")

    def _page(self, entry: Entry, file: str) -> Page | Unreadable:
        """One record's page, or why there is none."""
        record, limit = entry.record, self.max_page_bytes

        def unreadable(reason: str, detail: str, value: float | None = None) -> Unreadable:
            return self._unreadable(file, entry.id, entry.offset, entry, reason, detail, value)

        try:
            if entry.kind == "response" and record.is_http:
                record.parse_http(auto_decode="none", quirks_mode=True)  # headers that end in a bare LF too
            http = record.http_headers
            if http is not None and http.status_code is None:
                return unreadable("no_http_status", "the response has no status line")
            if http is not None and http.status_code not in self.statuses:
                return unreadable("http_status", str(http.status_code), http.status_code)
            raw = entry.read(limit + 1)
            mime = content_type(record, entry.kind)
            html = mime in HTML_TYPES or (not mime and b"<html" in raw[:4096].lower())
            if not html and entry.kind != "conversion":
                return unreadable("content_type", mime or "none")
            if len(raw) > limit:
                return unreadable("too_long", f"over {limit} bytes", _length(entry))
            if len(raw) < _length(entry) or entry.cut:
                return unreadable("truncated", f"{_length(entry)} bytes were declared", len(raw))
            content = raw if http is None else decoded(http, raw, limit + 1)
            charset = "utf-8" if entry.kind == "conversion" else "" if http is None else record.http_charset or ""
        except BROKEN as error:
            return unreadable("broken_record", str(error))
        if len(content) > limit:
            return unreadable("too_long", f"over {limit} bytes when decoded", len(content))
        if not content.strip(b" \t\r\n\0"):
            return unreadable("empty_page", "")
        url, date = _url_and_date(record)
        return Page(entry.id, file, entry.offset, self.source, url, date, content, charset, html)

    def _unreadable(
        self,
        file: str,
        key: str,
        offset: int,
        entry: Entry | None,
        reason: str,
        detail: str,
        value: float | None = None,
    ) -> Unreadable:
        url, date = ("", "") if entry is None else _url_and_date(entry.record)
        return Unreadable(key, file, offset, self.source, url, date, reason, value, valid_text(detail))


def _length(entry: Entry) -> int:
    """Declared bytes of what follows the headers."""
    return int(entry.record.content_length + entry.left_out)


def _url_and_date(record: Any) -> tuple[str, str]:
    url = (record.headers.get("WARC-Target-URI") or "").strip()
    if url.startswith("<") and url.endswith(">"):  # some versions of wget write it so
        url = url[1:-1]
    return valid_text(url), valid_text(record.headers.get("WARC-Date") or "")
