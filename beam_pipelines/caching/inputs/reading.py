"""Input files as pieces of about equal size, and their records: JSON lines, lines or whole files of text, Parquet."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from beam_pipelines.caching.inputs import lines
from beam_pipelines.files import storage
from t5x_style.errors import UserError

RANGE_BYTES = 64 * 2**20
LINE, FILE = "line", "file"  # what a document of a text file is
JSON_LINES, TEXT, WHOLE_TEXT, PARQUET = "json lines", "text", "whole text", "parquet"
_SUFFIXES = {".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".txt": TEXT, ".parquet": PARQUET}
_KNOWN = ".jsonl, .ndjson and .txt (also .gz, .zst), .parquet"
_ROWS_PER_BATCH = 1000


class Piece(NamedTuple):
    """A part of a file: bytes [start, end) of lines (end None: all of it), or row groups [start, end) of Parquet."""

    path: str
    kind: str
    start: int = 0
    end: int | None = None


class Record(NamedTuple):
    """One record of a piece.

    Attributes:
      position: offset of its line, or number of its row, from 0; see `where`.
      value: an object with columns, a text; None: a blank line, or a broken one.
      fault: what is wrong with it; "": nothing.
    """

    position: int
    value: dict[str, Any] | str | None
    fault: str = ""


def find_files(patterns: Sequence[str]) -> list[str]:
    """The files that globs name, in order, without those whose names begin with "_" or "." (readers skip them).

    Raises:
      UserError: a glob names none, a folder, or a file of an unknown format.
    """
    try:
        paths = [path for path in storage.expand(patterns) if not posixpath.basename(path).startswith(("_", "."))]
    except UserError as error:
        raise UserError(str(error).replace("/*.warc.gz", "'/*.jsonl'")) from error
    if not paths:
        raise UserError(f"--input {' '.join(patterns)}: only files that begin with _ or . match; they are not read")
    for path in paths:
        kind_of(path)
    return paths


def kind_of(path: str) -> str:
    """The format that a file's name tells.

    Raises:
      UserError: it tells none.
    """
    name = path
    for ending in lines.COMPRESSED:
        name = name.removesuffix(ending)
    kind = _SUFFIXES.get(posixpath.splitext(name)[1].lower())
    if kind is None or (kind == PARQUET and name != path):
        raise UserError(f"--input: the name of {path} tells no known format ({_KNOWN}); rename or convert it")
    return kind


def cut(paths: Sequence[str], text_documents: str = LINE, range_bytes: int = RANGE_BYTES) -> list[list[Piece]]:
    """The units: each a list of pieces that are read one after the other.

    Lines are cut at about `range_bytes`, Parquet at whole row groups, compressed files not at all; files that are one
    document each are joined up to `range_bytes`.

    Raises:
      UserError: a Parquet file cannot be read.
    """
    units: list[list[Piece]] = []
    joined = 0
    for path, size in zip(paths, storage.sizes(paths), strict=True):
        kind = kind_of(path)
        if kind == TEXT and text_documents == FILE:
            if not joined or joined + size > range_bytes:
                units.append([])
                joined = 0
            units[-1].append(Piece(path, WHOLE_TEXT))
            joined += max(1, size)
            continue
        joined = 0
        if kind == PARQUET:
            units += [[Piece(path, kind, start, end)] for start, end in _group_ranges(path, range_bytes)]
        elif path.endswith(lines.COMPRESSED):
            units.append([Piece(path, kind)])
        else:
            starts = range(0, max(1, size), range_bytes)
            units += [[Piece(path, kind, start, min(size, start + range_bytes))] for start in starts]
    return units


def read(piece: Piece, columns: Sequence[str] | None = None) -> Iterator[Record]:
    """The records of a piece in order.

    Args:
      columns: what is read of a Parquet file; None: all.

    Raises:
      UserError: the file is damaged, or a Parquet file lacks a column.
    """
    if piece.kind == PARQUET:
        yield from _rows(piece, columns)
    elif piece.kind == WHOLE_TEXT:
        with lines.opened(piece.path) as file:
            yield _text(0, file.read().removeprefix(b"\xef\xbb\xbf"))
    else:
        parse = _json if piece.kind == JSON_LINES else _line
        for offset, line in lines.read_lines(piece.path, piece.start, piece.end):
            yield parse(offset, line)


def where(piece: Piece, position: int) -> str:
    """A record's place as people name it: "part.jsonl, line 12"; reads the file up to there."""
    if piece.kind == PARQUET:
        return f"{piece.path}, row {position + 1}"
    if piece.kind == WHOLE_TEXT:
        return piece.path
    return f"{piece.path}, line {lines.line_number(piece.path, position)}"


def _json(position: int, line: bytes) -> Record:
    if not line.strip():
        return Record(position, None)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Record(position, None, f"not valid JSON ({' '.join(str(error).split())})")
    if not isinstance(value, dict):
        return Record(position, None, f"a JSON {type(value).__name__} where an object with columns is needed")
    return Record(position, value)


def _line(position: int, line: bytes) -> Record:
    return _text(position, line.rstrip(b"\r\n"))


def _text(position: int, content: bytes) -> Record:
    try:
        return Record(position, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Record(position, None, f"not UTF-8 text ({error.reason} at its byte {error.start})")


def _group_ranges(path: str, range_bytes: int) -> list[tuple[int, int]]:
    with storage.open_read(path) as file:
        metadata = _parquet(path, file).metadata
        sizes = [metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)]
    ranges, start, total = [], 0, 0
    for group, size in enumerate(sizes):
        if group > start and total + size > range_bytes:
            ranges.append((start, group))
            start, total = group, 0
        total += size
    return [*ranges, (start, len(sizes))]


def _rows(piece: Piece, columns: Sequence[str] | None) -> Iterator[Record]:
    import pyarrow as pa

    with storage.open_read(piece.path) as file:
        table = _parquet(piece.path, file)
        names = table.schema_arrow.names
        if missing := [name for name in columns or () if name not in names]:
            raise UserError(
                f"{piece.path}: no column {missing[0]!r}; it has {', '.join(names)}: rename it, or leave the file out"
            )
        end = table.num_row_groups if piece.end is None else piece.end
        row = sum(table.metadata.row_group(group).num_rows for group in range(piece.start))
        try:
            groups = list(range(piece.start, end))
            for batch in table.iter_batches(batch_size=_ROWS_PER_BATCH, row_groups=groups, columns=columns):
                for value in batch.to_pylist():
                    yield Record(row, value)
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{piece.path}: damaged behind row {row} ({_one_line(error)}); copy it again") from error


def _parquet(path: str, file: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({_one_line(error)}); copy it again") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
