"""ARPA files, the text format of n-gram models (http://www.speech.sri.com/projects/srilm/manpages/ngram-format.5.html).

    \\data\\
    ngram 1=4
    ...
    \\1-grams:
    -1.0791812<TAB>the<TAB>-0.30103

Numbers are base-10 logarithms; an entry without a third column has backoff 0. Files may be gzip-compressed.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.quality.kneser_ney import Level
from t5x_style.errors import UserError

_LINES = 100_000
_GZIP = b"\x1f\x8b"


class Entries(NamedTuple):
    """Some n-grams of one order, in the file's order.

    Attributes:
      order: words each.
      words: order x entries words, one n-gram after the other.
      log10_probability, log10_backoff: one per n-gram; backoff 0 where the file has none.
    """

    order: int
    words: list[str]
    log10_probability: np.ndarray
    log10_backoff: np.ndarray


def write(path: str, levels: Sequence[Level], vocabulary: Sequence[str]) -> None:
    """Writes the file, whole or not at all; gzip-compressed where its name ends in .gz."""
    with storage.atomic_writer(path) as raw:
        if path.endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as file:
                _write(file, levels, vocabulary)
        else:
            _write(raw, levels, vocabulary)


def _write(file: IO[bytes] | gzip.GzipFile, levels: Sequence[Level], vocabulary: Sequence[str]) -> None:
    sizes = "".join(f"ngram {order}={len(level.rows)}\n" for order, level in enumerate(levels, 1))
    file.write(f"\\data\\\n{sizes}".encode())
    words = np.array(vocabulary, dtype=object)
    for order, level in enumerate(levels, 1):
        file.write(f"\n\\{order}-grams:\n".encode())
        for start in range(0, len(level.rows), _LINES):
            part = slice(start, start + _LINES)
            ngrams = words[level.rows[part, 0]]
            for column in range(1, order):
                ngrams = ngrams + " " + words[level.rows[part, column]]
            probabilities = level.log10_probability[part].tolist()
            if level.log10_backoff is None:
                lines = [f"{p:.7g}\t{ngram}\n" for p, ngram in zip(probabilities, ngrams)]
            else:
                backoffs = level.log10_backoff[part].tolist()
                lines = [f"{p:.7g}\t{ngram}\t{b:.7g}\n" for p, ngram, b in zip(probabilities, ngrams, backoffs)]
            file.write("".join(lines).encode("utf-8"))
    file.write(b"\n\\end\\\n")


def read(path: str) -> Iterator[Entries]:
    """The entries of all orders, in order, some at a time.

    Raises:
      UserError: not an ARPA file, or one that ends early or holds another number of n-grams than it says.
    """
    with storage.open_read(path) as raw:
        head = raw.read(2)
        raw.seek(0)
        # ARPA lines end in \n only: words may hold what str.splitlines would take for the end of a line.
        binary = gzip.GzipFile(fileobj=raw) if head == _GZIP else raw
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="\n")  # type: ignore[arg-type]
        try:
            yield from _read(path, file)
        except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: not a readable ARPA file ({error})") from error


def _read(path: str, file: io.TextIOWrapper) -> Iterator[Entries]:
    sizes = _read_sizes(path, file)
    for order, size in enumerate(sizes, 1):
        heading = _next_line(file)
        if heading != f"\\{order}-grams:":
            raise UserError(f"{path}: '\\{order}-grams:' expected where {heading[:80]!r} stands")
        for start in range(0, size, _LINES):
            lines = [file.readline() for _ in range(min(_LINES, size - start))]
            try:
                yield _entries(order, lines)
            except ValueError as error:
                raise UserError(f"{path}: a line of the {order}-grams cannot be read ({error})") from error
    ending = _next_line(file)
    if ending != "\\end\\":
        raise UserError(f"{path}: '\\end\\' expected where {ending[:80]!r} stands; is the file complete?")


def _next_line(file: io.TextIOWrapper) -> str:
    """The next line that is not blank; '' at the end."""
    for line in file:
        if stripped := line.strip():
            return stripped
    return ""


def _read_sizes(path: str, file: io.TextIOWrapper) -> list[int]:
    sizes: list[int] = []
    if _next_line(file) == "\\data\\":
        for line in file:
            if not line.strip():
                break
            head, _, count = line.strip().partition("=")
            if head.split() != ["ngram", str(len(sizes) + 1)] or not count.strip().isdigit():
                raise UserError(f"{path}: 'ngram {len(sizes) + 1}=COUNT' expected where {line.strip()[:80]!r} stands")
            sizes.append(int(count))
    if not sizes:
        raise UserError(f"{path}: not an ARPA file ('\\data\\' and the numbers of n-grams are missing)")
    return sizes


def _entries(order: int, lines: Sequence[str]) -> Entries:
    # Nearly always all lines of a block are alike; then one list does, instead of one a line.
    parts = "".join(lines).replace("\t", " ").replace("\n", " ").split(" ")
    for with_backoff in (True, False):
        width = order + 1 + with_backoff
        if len(parts) == len(lines) * width + 1 and "" not in parts[:-1]:
            table = np.array(parts[:-1], dtype=object).reshape(-1, width)
            backoffs = table[:, -1].astype(np.float64) if with_backoff else np.zeros(len(lines))
            return Entries(order, table[:, 1 : order + 1].ravel().tolist(), table[:, 0].astype(np.float64), backoffs)
    return _uneven_entries(order, lines)


def _uneven_entries(order: int, lines: Sequence[str]) -> Entries:
    """Lines of which some have no backoff, or something wrong."""
    columns = [line.rstrip("\n").split("\t") for line in lines]
    words = " ".join(column[1] if len(column) > 1 else "" for column in columns).split(" ")
    if len(words) != order * len(lines) or "" in words:
        wrong = next(line for line, found in zip(lines, columns) if len(found) < 2 or found[1].count(" ") != order - 1)
        raise ValueError(f"no {order} words between tabs in {wrong[:80]!r}")
    probabilities = np.array([column[0] for column in columns], np.float64)
    backoffs = np.array([column[2] if len(column) > 2 else 0.0 for column in columns], np.float64)
    return Entries(order, words, probabilities, backoffs)
