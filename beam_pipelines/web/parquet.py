"""Documents and rejected documents as Parquet, in row groups, so that memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.files import storage
from beam_pipelines.web.document import Document, Unreadable, Verdict

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("metadata", pa.string()),
    ]
)
REJECTED = pa.schema([*DOCUMENTS, ("stage", pa.string()), ("reason", pa.string()), ("value", pa.float64())])
ROW_GROUP = 1000
ROW_GROUP_CHARACTERS = 32_000_000


class Table:
    """Writes rows to an open file; a context manager. The bytes depend on the rows only."""

    def __init__(self, file: IO[bytes], schema: pa.Schema):
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._characters = 0

    def __enter__(self) -> Table:
        return self

    def add(self, row: tuple[Any, ...], characters: int) -> None:
        """Adds a row with its columns in the schema's order; `characters` bounds the size of a row group."""
        self._rows.append(row)
        self._characters += characters
        if len(self._rows) >= ROW_GROUP or self._characters >= ROW_GROUP_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows, self._characters = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def document_row(document: Document) -> tuple[Any, ...]:
    """The columns of `DOCUMENTS`."""
    return (
        document.id,
        document.text,
        document.source,
        document.url,
        document.date,
        document.language,
        document.language_score,
        document.metadata,
    )


def rejected_row(document: Document, stage: str, verdict: Verdict) -> tuple[Any, ...]:
    """The columns of `REJECTED`."""
    return (*document_row(document), stage, verdict.reason, None if verdict.value is None else float(verdict.value))


def unreadable_document(item: Unreadable) -> Document:
    """A record without a page as a row for `rejected`: no text, file, offset and detail in the metadata."""
    import json

    metadata = {"title": "", "meta": {}, "file": item.file, "offset": item.offset, "detail": item.detail}
    text = json.dumps(metadata, ensure_ascii=False)
    return Document(item.id, "", item.source, item.url, item.date, "", 0.0, text)


def read_documents(path: str) -> Iterator[Document]:
    """The documents of one file, in order; one row group at a time is in memory (a batch would reach over several)."""
    with storage.open_read(path) as opened:
        file = pq.ParquetFile(opened)
        for group in range(file.num_row_groups):
            batch = file.read_row_group(group)
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield Document(*row)
