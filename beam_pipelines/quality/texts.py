"""Texts out of Parquet, JSON lines and plain text files, for training and reference."""

from __future__ import annotations

import gzip
import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.files import storage
from t5x_style.errors import UserError

ROWS_PER_BATCH = 1000
_JSON_LINES, _PLAIN = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), (".txt", ".txt.gz")
KNOWN = (".parquet", *_JSON_LINES, *_PLAIN)


class Text(NamedTuple):
    """A text and what it is called: its column or field `id`, or file name and line number."""

    id: str
    text: str


def find_files(patterns: Sequence[str], option: str, suffixes: Sequence[str] = KNOWN) -> list[str]:
    """The files that globs (local or remote) name.

    Args:
      patterns: the globs.
      option: the command's, for messages.
      suffixes: that their names may have; () for any.

    Raises:
      UserError: a glob names none, or a file has another suffix.
    """
    try:
        paths = storage.expand(patterns)
    except UserError as error:
        raise UserError(str(error).replace("--input", option).replace("/*.warc.gz", "/*.parquet")) from error
    for path in paths:
        if suffixes and not path.endswith(tuple(suffixes)):
            raise UserError(f"{option}: {path} is in none of the known formats ({', '.join(suffixes)})")
    return paths


def input_names(paths: Sequence[str]) -> list[list[Any]]:
    """[file name, bytes] of every input, for a configuration's fingerprint."""
    return [[posixpath.basename(path), storage.size(path)] for path in paths]


def read_texts(paths: Sequence[str], field: str = "text") -> Iterator[Text]:
    """The texts of the files, in order. In plain text files each line that is not blank is one.

    Args:
      field: column or JSON field that holds the text.

    Raises:
      UserError: a file cannot be read as what its name says, or lacks the field.
    """
    for path in paths:
        if path.endswith(".parquet"):
            yield from _parquet(path, field)
        else:
            yield from _lines(path, field)


def _parquet(path: str, field: str) -> Iterator[Text]:
    with storage.open_read(path) as file:
        try:
            table = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: not a readable Parquet file ({error})") from error
        names = table.schema_arrow.names
        if field not in names:
            raise UserError(f"{path}: no column {field!r}; it has {', '.join(names)}")
        columns = [name for name in ("id", field) if name in names]
        row = 0
        for batch in table.iter_batches(batch_size=ROWS_PER_BATCH, columns=columns):
            for item in batch.to_pylist():
                row += 1
                name = item.get("id")
                yield Text(_name(path, row) if name is None else str(name), str(item[field] or ""))


def _lines(path: str, field: str) -> Iterator[Text]:
    with storage.open_read(path) as raw:
        number = 0
        try:
            for number, line in enumerate(open_lines(path, raw), 1):
                if not line.strip():
                    continue
                if path.endswith(_PLAIN):
                    yield Text(_name(path, number), line.rstrip("\r\n"))
                    continue
                item = json.loads(line)
                if not isinstance(item, dict) or not isinstance(item.get(field), str):
                    raise UserError(f"{path} line {number}: no JSON object with a text in {field!r}")
                yield Text(str(item.get("id", _name(path, number))), item[field])
        except (ValueError, EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: cannot be read behind line {number} ({error})") from error


def open_lines(path: str, raw: IO[bytes]) -> io.TextIOWrapper:
    """UTF-8 lines of an open file, decompressed where its name ends in .gz; they end at \\n only."""
    binary = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
    return io.TextIOWrapper(binary, encoding="utf-8", newline="\n")  # type: ignore[arg-type]


def _name(path: str, number: int) -> str:
    return f"{posixpath.basename(path)}:{number}"
