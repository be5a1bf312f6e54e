"""Edges to clusters: which documents are dropped, and a table of who belongs together, for people.

Two documents are in one cluster if a chain of edges leads from one to the other. Its first document in input order, the
smallest number, stays and gives the cluster its name. DIR/clusters/<stage>.parquet has a row for every document in a
cluster of two or more, in input order:

    id       of the document
    cluster  id of the one that stays
    file     unit that it comes from
    kept     whether it is the one that stays
    size     documents in the cluster

One task joins up to `limit` edges in memory; beyond that rounds of jobs do (see `cluster_rounds`), with equal results.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.unit import Unit, file_name, write_result
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.dedup.cluster_rounds import Rounds
from beam_pipelines.web.dedup.key_edges import EARLIER, ROW_BITS, read_edges
from t5x_style.files import fingerprint

CLUSTERS = pa.schema(
    [("id", pa.string()), ("cluster", pa.string()), ("file", pa.string()), ("kept", pa.bool_()), ("size", pa.int64())]
)
ROW_GROUP = 100_000
DROP = np.dtype([("document", np.uint64), ("keeper", "S32")])
_ROW_MASK = (np.uint64(1) << ROW_BITS) - np.uint64(1)


class Edges(NamedTuple):
    """What the shuffle left: `<part>.edges.npy` files in a folder.

    Attributes:
      folder, parts: where they are.
      total: of edges; one pair of documents may count many times.
      documents: that have a key.
    """

    folder: str
    parts: Sequence[str]
    total: int
    documents: int


class Labels(NamedTuple):
    """Documents, ascending, and the first document of each one's cluster, itself included; both uint64 [k].

    The first document is `EARLIER` where it is not among this run's.
    """

    documents: np.ndarray
    firsts: np.ndarray


def find_clusters(corpus: Corpus, key: str, stage: str, edges: Edges, limit: int) -> Findings:
    """Joins the edges, in one task or in rounds, and writes what is to be dropped."""
    name, folder = corpus.new_job()
    sources = [unit.name for unit in corpus.units]
    table = storage.join(corpus.output, "clusters", f"{file_name(stage)}.parquet")
    write = WriteClusters(folder, corpus.documents, sources, table)
    function: Callable[[Unit], None]
    if min(edges.total, edges.documents) <= limit:
        function = JoinClusters(write, edges, limit)
    else:
        ranges = max(1, -(-4 * edges.total // limit))  # seen from both ends, half of `limit` edges a part
        function = CopyClusters(write, *Rounds(corpus, key, name, folder, ranges).run(edges.folder, edges.parts))
    job = Job(name, folder, [Unit("clusters", key)], corpus.described, function)
    shares = run_job(corpus.runner, job)["clusters"]["ranges"]
    return Findings(storage.join(folder, "drops.bin"), {unit: tuple(share) for unit, share in shares.items()})


def components(edges: np.ndarray) -> Labels:
    """Connected components of uint64 [m, 2] edges.

    Example: [[1, 2], [2, 5], [7, 9]] -> documents [1, 2, 5, 7, 9], firsts [1, 1, 1, 7, 7].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(edges):
        return Labels(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    documents, index = np.unique(edges, return_inverse=True)
    index = index.reshape(edges.shape)
    graph = coo_array((np.ones(len(edges), np.int8), (index[:, 0], index[:, 1])), shape=(len(documents),) * 2)
    count, label = connected_components(graph, directed=False)
    # The documents ascend, so the first place where a label stands is the smallest document of its component.
    smallest = np.empty(count, np.int64)
    smallest[label[::-1]] = np.arange(len(documents) - 1, -1, -1)
    return Labels(documents, documents[smallest[label]])


def join_in_memory(blocks: Iterable[np.ndarray], limit: int) -> Labels:
    """Clusters of blocks of edges; whenever more than half of `limit` wait, they are joined to one edge a document.

    Memory is that of limit / 2 edges, one block and one edge for every document in a cluster.
    """
    waiting = [np.zeros((0, 2), np.uint64)]  # the first one: what is joined already
    earlier = [np.zeros(0, np.uint64)]
    for block in blocks:
        repeats = block[:, 0] == EARLIER
        earlier.append(block[repeats, 1])
        waiting.append(block[~repeats])
        if sum(map(len, waiting[1:])) > limit // 2:
            joined = components(np.concatenate(waiting))
            waiting = [np.stack([joined.firsts, joined.documents], axis=1)]
    joined = components(np.concatenate(waiting))
    seen = np.concatenate(earlier)
    if not len(seen):
        return joined
    documents = np.concatenate([joined.documents, seen])
    firsts = np.concatenate([joined.firsts, np.full(len(seen), EARLIER)])
    order = np.argsort(documents)
    return Labels(documents[order], firsts[order])


@dataclass(frozen=True)
class WriteClusters:
    """Writes `drops.bin`, the range of it that belongs to each source, and the table of clusters.

    It reads the id column of one unit at a time; memory is 12 bytes a cluster, disk 32.

    Attributes:
      folder: where the drops go.
      documents: folder of the units' documents.
      sources: the units' names, in order.
      table: path of the table.
    """

    folder: str
    documents: str
    sources: Sequence[str]
    table: str

    def __call__(self, unit: Unit, labels: Callable[[], Iterator[Labels]]) -> None:
        """Takes blocks of labels, ascending, each with all of a unit's; they are read three times."""
        own_place = [block.documents[block.documents == block.firsts] for block in labels()]
        firsts = np.concatenate([np.zeros(0, np.uint64), *own_place])
        sizes = np.zeros(len(firsts), np.uint32)
        for block in labels():
            np.add.at(sizes, np.searchsorted(firsts, block.firsts[block.firsts != EARLIER]), np.uint32(1))
        nothing = fingerprint("")
        ranges: dict[str, list[object]] = {}
        written = 0
        with (
            tempfile.TemporaryFile() as scratch,
            storage.atomic_writer(storage.join(self.folder, "drops.bin")) as drops,
            storage.atomic_writer(self.table) as table,
            pq.ParquetWriter(table, CLUSTERS, compression="zstd") as rows,
        ):
            scratch.truncate(max(1, len(firsts)) * 32)
            names = np.memmap(scratch, "S32", "r+", shape=(max(1, len(firsts)),))  # of the firsts, as they are met
            for index, own in _by_unit(labels()):
                source = self.sources[index]
                found = self._write_unit(source, own, firsts, sizes, names, rows)
                drops.write(found.tobytes())
                ranges[source] = [written, written + len(found), fingerprint(found.tobytes().hex())]
                written += len(found)
        result, place = {}, 0
        for source in self.sources:
            result[source] = ranges.get(source, [place, place, nothing])
            place = int(result[source][1])  # type: ignore[call-overload]
        write_result(self.folder, unit, {"dropped": written, "clusters": len(firsts), "ranges": result})

    def _write_unit(
        self,
        source: str,
        own: Labels,
        firsts: np.ndarray,
        sizes: np.ndarray,
        names: np.ndarray,
        table: pq.ParquetWriter,
    ) -> np.ndarray:
        """Adds one unit's rows to the table; returns its drops, their `document` being the row."""
        rows = own.documents & _ROW_MASK
        drops = np.zeros(len(rows), DROP)
        drops["document"] = rows
        joined = own.firsts != EARLIER
        kept = own.documents == own.firsts
        if joined.any():
            with storage.open_read(storage.join(self.documents, f"{source}.parquet")) as file:
                column = pq.read_table(file, columns=["id"]).column("id").to_numpy(zero_copy_only=False)
            ids = column[rows[joined].astype(np.int64)]
            place = np.searchsorted(firsts, own.firsts[joined])
            is_first = kept[joined]
            names[place[is_first]] = ids[is_first].astype("S32")  # it comes before all others of its cluster
            keepers = names[place]
            drops["keeper"][joined] = keepers
            columns = [ids, keepers.astype("U32"), np.full(len(ids), source, object), is_first, sizes[place]]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, CLUSTERS, strict=True)]
            table.write_table(pa.table(arrays, schema=CLUSTERS), row_group_size=ROW_GROUP)
        return drops[~kept]


def _by_unit(blocks: Iterator[Labels]) -> Iterator[tuple[int, Labels]]:
    """(index of the unit, its labels) for every unit that has some."""
    for documents, firsts in blocks:
        owner = documents >> ROW_BITS
        indices, starts = np.unique(owner, return_index=True)
        stops = [*starts.tolist(), len(documents)][1:]
        for index, start, stop in zip(indices.tolist(), starts.tolist(), stops, strict=True):
            yield index, Labels(documents[start:stop], firsts[start:stop])


@dataclass(frozen=True)
class JoinClusters:
    """The one reducer: all edges at once."""

    write: WriteClusters
    edges: Edges
    limit: int

    def __call__(self, unit: Unit) -> None:
        """Joins the edges and writes the clusters."""
        labels = join_in_memory((read_edges(self.edges.folder, part) for part in self.edges.parts), self.limit)
        self.write(unit, lambda: iter([labels]))


@dataclass(frozen=True)
class CopyClusters:
    """Writes the clusters that rounds of jobs have left in files, `<part>.labels.npy`, ascending by document."""

    write: WriteClusters
    folder: str
    parts: Sequence[str]

    def __call__(self, unit: Unit) -> None:
        """Reads one file at a time."""

        def labels() -> Iterator[Labels]:
            for part in self.parts:
                with storage.open_read(storage.join(self.folder, f"{part}.labels.npy")) as file:
                    block = np.load(file, allow_pickle=False)
                yield Labels(block[:, 0], block[:, 1])

        self.write(unit, labels)


def read_drops(path: str, start: int, stop: int) -> dict[int, str]:
    """{row of a unit: id of the document it repeats} from a range of `drops.bin`; '' for one of an earlier run."""
    with storage.open_read(path) as file:
        file.seek(start * DROP.itemsize)
        drops = np.frombuffer(file.read((stop - start) * DROP.itemsize), DROP)
    return dict(zip(drops["document"].tolist(), (name.decode() for name in drops["keeper"].tolist()), strict=True))
