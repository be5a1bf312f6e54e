"""The shuffle of a deduplication: key files to sorted blocks of (key, row), blocks to edges between documents.

An edge is two document numbers: the index of the unit in the high 32 bits, the row in the low 32. The smaller one comes
first. `EARLIER` in its place says that the other repeats something of an earlier run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.dedup.hashing import range_of

ROW_BITS = np.uint64(32)
EARLIER = np.uint64(2**64 - 1)


def write_keys(file: IO[bytes], rows: np.ndarray, keys: np.ndarray) -> None:
    """Writes rows [k], ascending, and keys [k, bands, width] of one unit."""
    np.save(file, rows, allow_pickle=False)
    np.save(file, keys, allow_pickle=False)


def pack_block(keys: np.ndarray, rows: np.ndarray) -> bytes:
    """Keys uint64 [k, width] and rows [k] below 2^32: 8 * width + 4 bytes each."""
    return np.ascontiguousarray(keys, "<u8").tobytes() + rows.astype("<u4").tobytes()


def unpack_block(block: bytes, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(keys uint64 [k, width], rows uint64 [k]) of `pack_block`."""
    count = len(block) // (8 * width + 4)
    keys = np.frombuffer(block, "<u8", count * width).reshape(count, width)
    return keys, np.frombuffer(block, "<u4", count, count * width * 8).astype(np.uint64)


@dataclass(frozen=True)
class EmitKeys:
    """A unit's keys as one sorted block per part of the shuffle; a part is one range of hashes of one band.

    Attributes:
      folder: of the key files.
      bands, width, ranges: see `dedup.KeyDedup`.
      key_bits: so many leading bits of the first word decide about the part.
    """

    folder: str
    bands: int
    width: int
    ranges: int
    key_bits: int = 64

    def __call__(self, source: Unit, wanted: frozenset[int]) -> Iterable[tuple[int, tuple[int, bytes]]]:
        """Yields (part, (the unit's index, block)) for the wanted parts, also where a block is empty."""
        with storage.open_read(storage.join(self.folder, f"{source.name}.keys")) as file:
            rows, keys = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
        rest = np.uint64(64 - self.key_bits)
        for band in range(self.bands):
            if not any(band * self.ranges + part in wanted for part in range(self.ranges)):
                continue
            order = sort_order(keys[:, band])
            own_keys, own_rows = keys[order, band], rows[order]
            part_of = range_of(own_keys[:, 0] >> rest << rest, self.ranges)
            bounds = np.searchsorted(part_of, np.arange(self.ranges + 1))
            for part in range(self.ranges):
                if band * self.ranges + part in wanted:
                    own = slice(bounds[part], bounds[part + 1])
                    yield (
                        band * self.ranges + part,
                        (source.arguments["index"], pack_block(own_keys[own], own_rows[own])),
                    )


def sort_order(keys: np.ndarray) -> np.ndarray:
    """int64 [k]: the stable order of keys [k, width]; equal keys stay in the order they came in."""
    return np.argsort(keys[:, 0], kind="stable") if keys.shape[1] == 1 else np.lexsort(keys.T[::-1])


@dataclass(frozen=True)
class WriteEdges:
    """One part of the shuffle: from sorted blocks to edges (first document with a key, another one with it).

    Memory: about 60 bytes a document of the part, 80 for keys of two words.
    """

    folder: str
    width: int
    sources: int

    def __call__(self, unit: Unit, blocks: Sequence[tuple[int, bytes]]) -> None:
        """Writes uint64 [m, 2] edges.

        Raises:
          RuntimeError: the runner lost or doubled a block.
        """
        keys, documents = join_blocks(unit, blocks, self.width, self.sources)
        write_edges(self.folder, unit, self.edges(keys, documents), len(documents))

    def edges(self, keys: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Edges of what has equal keys."""
        return equal_key_edges(keys, documents)


def join_blocks(
    unit: Unit, blocks: Sequence[tuple[int, bytes]], width: int, sources: int
) -> tuple[np.ndarray, np.ndarray]:
    """All keys [k, width] of a part and their document numbers [k], ascending by (key, document).

    Raises:
      RuntimeError: the blocks are not one of each source.
    """
    if [index for index, _ in blocks] != list(range(sources)):
        raise RuntimeError(f"shuffle part {unit.name}: {len(blocks)} blocks of {sources} sources came through")
    unpacked = [unpack_block(block, width) for _, block in blocks]
    if not unpacked:
        return np.zeros((0, width), np.uint64), np.zeros(0, np.uint64)
    keys = np.concatenate([keys for keys, _ in unpacked])
    documents = np.concatenate([rows | (np.uint64(index) << ROW_BITS) for index, (_, rows) in enumerate(unpacked)])
    order = sort_order(keys)  # stable: equal keys stay in the order of units and rows
    return keys[order], documents[order]


def equal_key_edges(keys: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """uint64 [m, 2] (first, other) document numbers of equal keys.

    Args:
      keys: [k, width], ascending.
      documents: [k], ascending where keys are equal.

    Example: keys [[7], [7], [8]] of documents [0, 2**32, 5] -> [[0, 2**32]].
    """
    if len(documents) < 2:
        return np.zeros((0, 2), np.uint64)
    same = np.concatenate([[False], (keys[1:] == keys[:-1]).all(axis=1)])
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(documents))))
    return np.stack([documents[first[same]], documents[same]], axis=1)


def write_edges(folder: str, unit: Unit, edges: np.ndarray, documents: int, **counts: object) -> None:
    """Writes a part's edges, then its result: how many edges, of how many documents, and other counts."""
    with storage.atomic_writer(storage.join(folder, f"{unit.name}.edges.npy")) as file:
        np.save(file, edges, allow_pickle=False)
    write_result(folder, unit, {"edges": len(edges), "documents": documents, **counts})


def read_edges(folder: str, name: str) -> np.ndarray:
    """uint64 [m, 2] of `write_edges`."""
    with storage.open_read(storage.join(folder, f"{name}.edges.npy")) as file:
        return np.load(file, allow_pickle=False)
