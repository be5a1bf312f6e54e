"""The function of a map job: one unit's input to its documents, its rejected documents and its counts.

Stages that follow each other without a shuffle between them run here in one pass, document by document.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from beam_pipelines import storage
from beam_pipelines.units import Unit, write_result
from beam_pipelines.web import parquet
from beam_pipelines.web.dedup import DedupStage, read_drops, write_keys
from beam_pipelines.web.document import Document, DocumentStage, Page, Unreadable, Verdict
from beam_pipelines.web.extract import Extract, to_document
from beam_pipelines.web.extract_process import ExtractProcess
from beam_pipelines.web.read_warc import ReadWarc

KEY_BATCH = 1000
T = TypeVar("T")


@dataclass
class Tally:
    """What one stage did in one unit; `seconds` are a worker's wall time."""

    taken: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def timed(self, items: Iterable[T]) -> Iterator[T]:
        """Passes `items` on and adds the time that making them took."""
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item

    def result(self) -> dict:
        """As JSON-like values."""
        return {"in": self.taken, "kept": self.kept, "rejected": dict(self.rejected), "seconds": self.seconds}


@dataclass(frozen=True)
class MapUnit:
    """A map job's function.

    Attributes:
      folder: the job's own.
      documents, rejected: folders for its outputs; `suffix` is added to the rejected file's name.
      reader, extractor: of the first job; None later.
      input: folder of the documents that the job before wrote; '' in the first job.
      dropping, drops: the deduplication before this job, and its list of documents to drop.
      stages: what looks at each document, in order.
      keying: the deduplication after this job, whose keys are written.
    """

    folder: str
    documents: str
    rejected: str
    suffix: str
    reader: ReadWarc | None
    extractor: Extract | None
    input: str
    dropping: DedupStage | None
    drops: str
    stages: Sequence[DocumentStage]
    keying: DedupStage | None

    def __call__(self, unit: Unit) -> None:
        """Runs one unit; see `_Run`."""
        _Run(self, unit).run()


class _Run:
    """One unit on its way through the stages."""

    def __init__(self, job: MapUnit, unit: Unit):
        self._job, self._unit = job, unit
        heads = (job.reader, job.extractor, job.dropping)
        names = [stage.name for stage in (*heads, *job.stages) if stage is not None]
        self._tallies = {name: Tally() for name in names}
        self._records: Counter[str] = Counter()
        self._documents = self._characters = 0
        self._key_seconds = 0.0

    def run(self) -> None:
        job, unit = self._job, self._unit
        with ExitStack() as stack:

            def table(folder: str, name: str, schema: parquet.pa.Schema) -> parquet.Table:
                file = stack.enter_context(storage.atomic_writer(storage.join(folder, name)))
                return stack.enter_context(parquet.Table(file, schema))

            kept = table(job.documents, f"{unit.name}.parquet", parquet.DOCUMENTS)
            self._rejected = table(job.rejected, f"{unit.name}.{job.suffix}.parquet", parquet.REJECTED)
            documents = self._kept_documents(stack)
            if job.keying is not None:
                documents = self._keyed(documents, job.keying, stack)
            for document in documents:
                kept.add(parquet.document_row(document), len(document.text))
                self._documents += 1
                self._characters += len(document.text)
        stages = {name: tally.result() for name, tally in self._tallies.items()}
        counts: dict = {"stages": stages, "documents": self._documents, "characters": self._characters}
        counts["key_seconds"] = self._key_seconds
        write_result(job.folder, unit, {**counts, "records": dict(self._records)})

    def _kept_documents(self, stack: ExitStack) -> Iterator[Document]:
        steps = [(stage, self._tallies[stage.name]) for stage in self._job.stages]
        for document in self._crawled(stack) if self._job.reader is not None else self._deduplicated():
            for stage, tally in steps:
                start = time.perf_counter()
                document, verdict = stage.apply(document)
                tally.seconds += time.perf_counter() - start
                if not self._keeps(stage.name, document, verdict):
                    break
            else:
                yield document

    def _keeps(self, stage: str, document: Document, verdict: Verdict) -> bool:
        """Counts a verdict and writes the document if it is rejected."""
        tally = self._tallies[stage]
        tally.taken += 1
        if not verdict.reason:
            tally.kept += 1
            return True
        tally.rejected[verdict.reason] += 1
        self._rejected.add(parquet.rejected_row(document, stage, verdict), len(document.text))
        return False

    def _crawled(self, stack: ExitStack) -> Iterator[Document]:
        """Documents of a crawled file: reading and extraction."""
        reader, extractor = self._job.reader, self._job.extractor
        assert reader is not None
        assert extractor is not None
        reading, extracting = self._tallies[reader.name], self._tallies[extractor.name]
        process = stack.enter_context(ExtractProcess(extractor))
        path, file = self._unit.arguments["path"], self._unit.arguments["file"]
        pages = reading.timed(reader.pages(path, file, self._records))
        for item, outcome in extracting.timed(process.map(pages)):
            if isinstance(item, Unreadable):
                verdict = Verdict(item.reason, item.value)
                self._keeps(reader.name, parquet.unreadable_document(item), verdict)
                continue
            assert isinstance(item, Page)
            assert outcome is not None
            reading.taken += 1
            reading.kept += 1
            if isinstance(outcome, Verdict):
                lost = Unreadable(item.id, item.file, item.offset, item.source, item.url, item.date, "", None, "")
                self._keeps(extractor.name, parquet.unreadable_document(lost), outcome)
                continue
            document, verdict = to_document(item, outcome)
            if self._keeps(extractor.name, document, verdict):
                yield document
        extracting.seconds -= reading.seconds  # pages are read while extraction waits for them

    def _deduplicated(self) -> Iterator[Document]:
        """Documents of the job before, without those that the deduplication before drops."""
        job, stage = self._job, self._job.dropping
        assert stage is not None
        drops = read_drops(job.drops, *self._unit.arguments["drops"])
        documents = parquet.read_documents(storage.join(job.input, f"{self._unit.name}.parquet"))
        for row, document in enumerate(self._tallies[stage.name].timed(documents)):
            keeper = drops.get(row)
            if keeper is None:
                self._keeps(stage.name, document, Verdict())
                yield document
            else:
                metadata = {**json.loads(document.metadata), "duplicate_of": keeper}
                document = document.replace(metadata=json.dumps(metadata, ensure_ascii=False))
                self._keeps(stage.name, document, Verdict(stage.reason))

    def _keyed(self, documents: Iterable[Document], stage: DedupStage, stack: ExitStack) -> Iterator[Document]:
        """Passes documents on; at their end writes their keys. A row is a document's place among them."""
        file = stack.enter_context(storage.atomic_writer(storage.join(self._job.folder, f"{self._unit.name}.keys")))
        batch: list[Document] = []
        rows: list[np.ndarray] = []
        keys = [np.zeros((0, stage.bands, stage.width), np.uint64)]
        count = 0

        def flush() -> None:
            nonlocal count
            start = time.perf_counter()
            some_rows, some_keys = stage.keys(batch)
            rows.append(some_rows.astype(np.int64) + count)
            keys.append(some_keys)
            count += len(batch)
            batch.clear()
            self._key_seconds += time.perf_counter() - start

        for document in documents:
            batch.append(document)
            if len(batch) >= KEY_BATCH:
                flush()
            yield document
        flush()
        write_keys(file, np.concatenate(rows), np.concatenate(keys))
