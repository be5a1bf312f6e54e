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

from beam_pipelines.files import storage
from beam_pipelines.web.document import Document
from t5x_style.errors import UserError

SEGMENT_SYMBOLS = 4_000_000
SEGMENT_DISTINCT = 500_000
ID_BYTES = 32
_HEADER = np.dtype([("symbols", np.uint64), ("distinct", np.uint64), ("last", np.uint64)])
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
        self._file.write(np.array([(self._count, len(self._numbers), last)], _HEADER).tobytes())
        self._file.write(digests)
        for piece in self._pieces:
            self._file.write(piece.tobytes())
        self._start_segment()


def read_index(path: str) -> Index:
    """Lengths and ids of a unit's documents, without its symbols.

    Raises:
      ValueError: no key file, or damaged.
    """
    size = storage.size(path)
    with storage.open_read(path) as file:
        file.seek(max(size - 8, 0))
        count = int.from_bytes(file.read(8), "little")
        start = _index_start(size, count)
        if start < _HEADER.itemsize:
            raise ValueError(f"{path}: damaged; delete the folder it is in and run the same command again")
        file.seek(start)
        lengths = np.frombuffer(file.read(4 * count), np.uint32).astype(np.int64)
        return Index(lengths, np.frombuffer(file.read(ID_BYTES * count), f"S{ID_BYTES}"))


def _index_start(size: int, documents: int) -> int:
    return size - 8 - documents * (4 + ID_BYTES)


def read_segments(path: str) -> Iterator[Segment]:
    """The segments of a unit, one at a time; at least one.

    Raises:
      ValueError: no key file, or damaged.
    """
    lengths = read_index(path).lengths
    ends = np.cumsum(lengths)
    end = _index_start(storage.size(path), len(lengths))
    document = total = at = 0
    with storage.open_read(path) as file:
        last = False
        while not last:
            header = np.frombuffer(file.read(_HEADER.itemsize), _HEADER)[0]
            count, distinct, last = int(header["symbols"]), int(header["distinct"]), bool(header["last"])
            at += _HEADER.itemsize + 16 * distinct + 4 * count
            total += count
            if at > end or (last and (at < end or total != lengths.sum())):
                raise ValueError(f"{path}: damaged; delete the folder it is in and run the same command again")
            hashes = np.frombuffer(file.read(16 * distinct), ">u8").astype(np.uint64).reshape(distinct, 2)
            symbols = np.frombuffer(file.read(4 * count), np.uint32)
            # Documents without a symbol go with those before them, so that none is left over at the end.
            stop = len(lengths) if last else int(np.searchsorted(ends, total, side="right"))
            yield Segment(lengths[document:stop], hashes, symbols, last)
            document = stop
