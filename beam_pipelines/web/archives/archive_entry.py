"""One record of an archive, WARC or ARC, as the reader sees it."""

from __future__ import annotations

from typing import Any

BROKEN = (OSError, ValueError, EOFError)  # what readers raise on bad records


class Entry:
    """One record; good until the next one is asked for.

    Attributes:
      record: FastWARC's; the header of an ARC record is translated.
      kind: WARC type: response, resource, conversion, request, metadata, revisit, warcinfo ...
      offset: of the record in the file, or of the compressed member that holds it and others.
      left_out: bytes of the declared block that `record` does not give, because they are missing or too many.
      cut: whether bytes are missing, as far as is known when the record is given.
      error: why the rest of the block could not be read, '' if it could.
    """

    __slots__ = ("cut", "error", "id", "kind", "left_out", "offset", "record", "taken")

    def __init__(self, record: Any, kind: str, offset: int, left_out: int = 0, cut: bool = False):
        self.record, self.kind, self.offset, self.left_out, self.cut = record, kind, offset, left_out, cut
        self.taken, self.id, self.error = 0, "", ""

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes of what is left of the block."""
        content = self.record.reader.read(limit)
        self.taken += len(content)
        return content

    def is_whole(self) -> bool:
        """Reads the rest of the block: whether all of its declared bytes are there."""
        try:
            self.taken += self.record.reader.consume()
        except BROKEN as error:
            self.cut, self.error = True, str(error)
        return not self.cut and self.taken >= self.record.content_length
