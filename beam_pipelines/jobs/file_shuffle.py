"""The shuffle of the local runner: blocks go to files and are read back part by part, so disk bounds it, not memory.

Every source writes two files into a folder of this shuffle: its blocks one after the other, and int64 [blocks, 4] rows
(part, source index, offset, length) sorted by part. A part then reads its blocks of all sources. Both halves are
ordinary map jobs, so that they use all worker processes; Beam's in-process runner would hold every block in memory,
several times over, and group them in one process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit

Block = tuple[int, bytes]
_BLOCKS, _INDEX = ".blocks", ".index"


@contextlib.contextmanager
def folder(job_folder: str) -> Iterator[str]:
    """An empty folder on this machine's disk for the length of the block: in the job's, or a temporary one."""
    if storage.is_local(job_folder):
        path = os.path.join(job_folder, "shuffle")
        shutil.rmtree(path, ignore_errors=True)  # a killed run's
        os.makedirs(path)
    else:
        path = tempfile.mkdtemp(prefix="shuffle-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class WriteBlocks:
    """The first half: one source's blocks to its files in `folder`."""

    emit: Callable[[Unit], Iterable[tuple[int, Block]]]
    folder: str

    def __call__(self, source: Unit) -> None:
        """Writes `<source>.blocks` and `<source>.index`."""
        rows, offset = [], 0
        path = os.path.join(self.folder, source.name)
        with open(path + _BLOCKS, "wb") as file:
            for part, (index, block) in self.emit(source):
                rows.append((part, index, offset, len(block)))
                offset += file.write(block)
        table = np.array(rows, np.int64).reshape(-1, 4)
        table[np.argsort(table[:, 0], kind="stable")].tofile(path + _INDEX)


@dataclass(frozen=True)
class ReadBlocks:
    """The second half: calls `reduce` with a part's blocks of all sources; a part that has none is left out."""

    reduce: Callable[[tuple[int, Iterable[Block]]], None]
    folder: str

    def __call__(self, part: Unit) -> None:
        """Reads the part's blocks into memory and hands them over."""
        number: int = part.arguments["part"]
        blocks = []
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(_INDEX):
                blocks += _read(os.path.join(self.folder, name.removesuffix(_INDEX)), number)
        if blocks:
            self.reduce((number, blocks))


def _read(path: str, part: int) -> list[Block]:
    """One source's blocks of a part."""
    table = np.fromfile(path + _INDEX, np.int64).reshape(-1, 4)
    start, stop = np.searchsorted(table[:, 0], [part, part + 1])
    if start == stop:
        return []
    blocks = []
    with open(path + _BLOCKS, "rb", buffering=0) as file:
        for _, index, offset, length in table[start:stop].tolist():
            file.seek(offset)
            blocks.append((index, file.read(length)))
    return blocks
