"""WARC files whose bytes depend only on their pages: fixed date, record ids from the content."""

from __future__ import annotations

import io
import uuid
from typing import BinaryIO

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

# A recording has a date; a constant keeps reruns and machines identical.
WARC_DATE = "2025-01-01T00:00:00Z"


class PageWriter:
    """Appends pages to a gzipped WARC file as HTTP response records, one gzip member each."""

    def __init__(self, file: BinaryIO):
        self._writer = WARCWriter(file, gzip=True, warc_version="WARC/1.0")

    def write(self, url: str, page: str) -> None:
        payload = page.encode("utf-8", errors="replace")
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(payload))),
            ("Server", "documentation"),
        ]
        record = self._writer.create_warc_record(
            url,
            "response",
            payload=io.BytesIO(payload),
            http_headers=StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1"),
            warc_headers_dict={
                "WARC-Date": WARC_DATE,
                "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url + payload.decode())}>",
            },
        )
        self._writer.write_record(record)
