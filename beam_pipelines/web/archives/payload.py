"""From an HTTP message's stored body to its content: transfer and content encodings undone, never beyond a limit."""

from __future__ import annotations

import contextlib
import io
import zlib
from typing import Any

from beam_pipelines.web.archives.archive_entry import BROKEN

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})


def content_type(record: Any, kind: str) -> str:
    """Media type in lower case, without parameters; '' if none is given."""
    if kind == "conversion":
        return "text/plain"
    if record.http_headers is not None:
        return (record.http_content_type or "").lower()
    return (record.headers.get("Content-Type") or "").split(";")[0].strip().lower()


def decoded(http: Any, raw: bytes, limit: int) -> bytes:
    """The content, at most `limit` bytes of it (a small body can expand to gigabytes).

    Many crawlers store decoded bodies under the headers of the encoded ones, so a body that is not in the declared
    encoding is taken as it is.

    Raises:
      OSError, ValueError: it is in the declared encoding, and damaged.
    """
    from fastwarc.stream_io import ChunkedReader

    if "chunked" in (http.get("Transfer-Encoding") or "").lower():
        with contextlib.suppress(*BROKEN):  # stored without chunks
            raw = ChunkedReader(io.BytesIO(raw)).read(limit) or raw
    encodings = [name.strip() for name in (http.get("Content-Encoding") or "").lower().split(",")]
    for encoding in reversed(encodings[-3:]):  # applied in this order, so undone from the last (RFC 9110, 8.4)
        raw = _decoded_once(encoding, raw, limit)
    return raw


def _decoded_once(encoding: str, raw: bytes, limit: int) -> bytes:
    from fastwarc.stream_io import BrotliReader, GzipReader, ZstdReader

    if encoding in ("gzip", "x-gzip") and raw.startswith(b"\x1f\x8b"):
        return GzipReader(io.BytesIO(raw)).read(limit)
    if encoding == "zstd" and raw.startswith(b"\x28\xb5\x2f\xfd"):
        return ZstdReader(io.BytesIO(raw)).read(limit)
    if encoding == "br" and not raw.startswith(b"<"):  # no brotli stream starts with this byte (RFC 7932, 9.2)
        try:
            return BrotliReader(io.BytesIO(raw)).read(limit)
        except BROKEN:
            if not any(tag in raw[:4096].lower() for tag in (b"<html", b"<!doctype", b"<body")):
                raise
            return raw
    return _inflated(raw, limit) if encoding == "deflate" else raw


def _inflated(raw: bytes, limit: int) -> bytes:
    """zlib or raw deflate (servers send both under the same name); anything else as it is."""
    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        try:
            return zlib.decompressobj(bits).decompress(raw, limit)
        except zlib.error:
            continue
    return raw
