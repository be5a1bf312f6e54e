"""Key files: a unit's documents as sequences of symbols, words or lines, each a number.

A file holds segments, which bound what a reader has in memory, then an index of the documents:

    segment   uint64 [3]      symbols, distinct symbols, 1 for the last segment
              uint64 [v, 2]   128-bit hash of every distinct symbol (XXH3)
              uint32 [n]      the symbols as rows of these hashes
    index     uint32 [d]      symbols of every document
              S32 [d]         its id
              uint64          d

No document lies in two segments. Per symbol 4 bytes, per distinct one 16, per document 36. 128 bits make it certain for
all purposes that no two symbols share a hash: 10^9 distinct ones do with probability 10^-21.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

import numpy as np

from beam_pipelines import storage
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError

SEGMENT_SYMBOLS = 4_000_000
SEGMENT_DISTINCT = 500_000
ID_BYTES = 32
MAX_SYMBOLS = 2**32  # of a unit: positions in it are uint32


class Segment(NamedTuple):
    """Whole documents in a row.

    Attributes:
      lengths: int64 [documents] symbols of each.
      hashes: uint64 [distinct symbols, 2].
      symbols: uint32 [sum of lengths], rows of `hashes`.
      last: whether the unit ends here.
    """

    lengths: np.ndarray
    hashes: np.ndarray
    symbols: np.ndarray
    last: bool


class Index(NamedTuple):
    """The documents of a unit: `lengths` int64 [documents] in symbols, `ids` S32 [documents]."""

    lengths: np.ndarray
    ids: np.ndarray


class SequenceWriter:
    """Writes a unit's key file; a `KeyWriter`."""

    def __init__(self, file: IO[bytes], symbols: Callable[[Document], Sequence[str]]):
        """`symbols` gives a document's symbols as text: words, lines."""
        self._file, self._symbols = file, symbols
        self._lengths: list[int] = []
        self._ids: list[bytes] = []
        self._total = 0
        self._start_segment()

    def _start_segment(self) -> None:
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__  # an unknown symbol gets the next number
        self._pieces: list[np.ndarray] = []
        self._count = 0

    def add(self, document: Document) -> None:
        """See `KeyWriter`.

        Raises:
          UserError: the unit has more than 2^32 symbols.
        """
        symbols = self._symbols(document)
        self._pieces.append(np.fromiter(map(self._numbers.__getitem__, symbols), np.uint32, len(symbols)))
        self._count += len(symbols)
        self._total += len(symbols)
        if self._total > MAX_SYMBOLS:
            raise UserError(f"an input file gave more than {MAX_SYMBOLS:,} words; split it")
        self._lengths.append(len(symbols))
        name = document.id.encode()
        assert len(name) <= ID_BYTES, document.id
        self._ids.append(name)
        if self._count >= SEGMENT_SYMBOLS or len(self._numbers) >= SEGMENT_DISTINCT:
            self._flush(last=False)

    def close(self) -> None:
        """See `KeyWriter`."""
        self._flush(last=True)
        self._file.write(np.array(self._lengths, np.uint32).tobytes())
        self._file.write(np.array(self._ids, f"S{ID_BYTES}").tobytes())
        self._file.write(np.array([len(self._ids)], np.uint64).tobytes())

    def _flush(self, last: bool) -> None:
        import xxhash

        digests = b"".join(xxhash.xxh3_128_digest(symbol.encode("utf-8", "surrogatepass")) for symbol in self._numbers)
        self._file.write(np.array([self._count, len(self._numbers), last], np.uint64).tobytes())
        self._file.write(digests)
        for piece in self._pieces:
            self._file.write(piece.tobytes())
        self._start_segment()


def read_index(path: str) -> Index:
    """Lengths and ids of a unit's documents, without its symbols."""
    size = storage.size(path)
    with storage.open_read(path) as file:
        file.seek(size - 8)
        count = int(_read(file, np.dtype(np.uint64), 1)[0])
        file.seek(size - 8 - count * (4 + ID_BYTES))
        lengths = _read(file, np.dtype(np.uint32), count).astype(np.int64)
        return Index(lengths, _read(file, np.dtype(f"S{ID_BYTES}"), count))


def read_segments(path: str) -> Iterator[Segment]:
    """The segments of a unit, one at a time; at least one."""
    lengths = read_index(path).lengths
    ends = np.cumsum(lengths)
    document = total = 0
    with storage.open_read(path) as file:
        last = 0
        while not last:
            count, distinct, last = _read(file, np.dtype(np.uint64), 3).tolist()
            hashes = _read(file, np.dtype(">u8"), 2 * distinct).astype(np.uint64).reshape(distinct, 2)
            symbols = _read(file, np.dtype(np.uint32), count)
            total += count
            # Documents without a symbol go with those before them, so that none is left over at the end.
            stop = len(lengths) if last else int(np.searchsorted(ends, total, side="right"))
            yield Segment(lengths[document:stop], hashes, symbols, bool(last))
            document = stop


def _read(file: IO[bytes], dtype: np.dtype, count: int) -> np.ndarray:
    content = file.read(dtype.itemsize * count)
    if len(content) != dtype.itemsize * count:
        raise EOFError(f"key file ends early: {len(content)} of {dtype.itemsize * count} bytes")
    return np.frombuffer(content, dtype)
