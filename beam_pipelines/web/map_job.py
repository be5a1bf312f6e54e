"""The function of a map job: one unit's input to its documents, its rejected documents and its counts.

Stages that follow each other without a shuffle between them run here in one pass, document by document.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from beam_pipelines.files import storage
from beam_pipelines.jobs.stage_error import naming
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web import parquet
from beam_pipelines.web.archives.archive_records import ReadFailed
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.corpus_stage import CorpusStage
from beam_pipelines.web.document import (
    Document,
    DocumentStage,
    Outcome,
    Page,
    PageStage,
    Unreadable,
    Verdict,
    take_measures,
)
from beam_pipelines.web.extraction.extract import Extract, to_document
from beam_pipelines.web.extraction.extract_process import ExtractProcess
from beam_pipelines.web.report.samples import Candidates
from beam_pipelines.web.tally import Tally
from t5x_style.errors import UserError


class Refused(NamedTuple):
    """A page that a stage before the extraction rejects."""

    page: Page
    stage: str
    verdict: Verdict


@dataclass(frozen=True)
class MapUnit:
    """A map job's function.

    Attributes:
      folder: the job's own.
      documents, rejected: folders for its outputs; `suffix` is added to the rejected file's name.
      reader, page_stages, extractor: of the first job; None and empty later.
      input: folder of the documents that the job before wrote; '' in the first job.
      finder, findings: the corpus stage before this job, and what it found.
      stages: what looks at each document, in order.
      keying: the corpus stage after this job, whose keys are written.
    """

    folder: str
    documents: str
    rejected: str
    suffix: str
    reader: ReadWarc | None
    page_stages: Sequence[PageStage]
    extractor: Extract | None
    input: str
    finder: CorpusStage | None
    findings: str
    stages: Sequence[DocumentStage]
    keying: CorpusStage | None

    def __call__(self, unit: Unit) -> None:
        """Runs one unit; see `_Run`."""
        _Run(self, unit).run()


class _Run:
    """One unit on its way through the stages."""

    def __init__(self, job: MapUnit, unit: Unit):
        self._job, self._unit = job, unit
        heads = (job.reader, *job.page_stages, job.extractor, job.finder)
        names = [stage.name for stage in (*heads, *job.stages) if stage is not None]
        self._tallies = {name: Tally() for name in names}
        self._records: Counter[str] = Counter()
        self._candidates = Candidates()
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
                if job.keying is None:  # in documents/ to stay
                    self._candidates.keep(document.id)
                self._documents += 1
                self._characters += len(document.text)
        stages = {name: tally.result() for name, tally in self._tallies.items()}
        counts: dict = {"stages": stages, "documents": self._documents, "characters": self._characters}
        counts |= {"key_seconds": self._key_seconds, "candidates": self._candidates.result()}
        write_result(job.folder, unit, {**counts, "records": dict(self._records)})

    def _kept_documents(self, stack: ExitStack) -> Iterator[Document]:
        steps = [(stage, self._tallies[stage.name]) for stage in self._job.stages]
        for document in self._crawled(stack) if self._job.reader is not None else self._found():
            for stage, tally in steps:
                start = time.perf_counter()
                with naming(stage, document):
                    outcome = stage.apply(document)
                tally.seconds += time.perf_counter() - start
                document = outcome.document
                if not self._keeps(stage.name, outcome):
                    break
            else:
                yield document

    def _keeps(self, stage: str, outcome: Outcome) -> bool:
        """Counts an outcome and writes the document if it is rejected."""
        document, verdict, measures, edits = outcome
        if self._tallies[stage].count(verdict, measures, edits):
            return True
        self._reject(document, stage, verdict)
        return False

    def _reject(self, document: Document, stage: str, verdict: Verdict) -> None:
        self._rejected.add(parquet.rejected_row(document, stage, verdict), len(document.text))
        self._candidates.reject(document.id, stage, verdict)

    def _crawled(self, stack: ExitStack) -> Iterator[Document]:
        """Documents of a crawled file: reading and extraction."""
        reader, extractor = self._job.reader, self._job.extractor
        assert reader is not None
        assert extractor is not None
        reading, extracting = self._tallies[reader.name], self._tallies[extractor.name]
        process = stack.enter_context(ExtractProcess(extractor))
        read = Tally()  # only for its clock: pages are read while extraction waits for them
        pages: Iterator[Any] = read.timed(self._judged_pages(reading.timed(self._read(reader))))
        results: Iterator[tuple[Any, Any]] = extracting.timed(process.map(pages))
        for item, outcome in results:
            if isinstance(item, Unreadable):
                lost = parquet.unreadable_document(item)
                self._keeps(reader.name, Outcome(lost, Verdict(item.reason, item.value)))
                continue
            if isinstance(item, Refused):
                self._reject(_without_text(item.page), item.stage, item.verdict)
                continue
            assert isinstance(item, Page)
            assert outcome is not None
            if isinstance(outcome, Verdict):
                self._keeps(extractor.name, Outcome(_without_text(item), outcome))
                continue
            document, verdict = to_document(item, outcome)
            if self._keeps(extractor.name, Outcome(document, verdict, edits=outcome.edits)):
                yield document
        extracting.seconds -= read.seconds

    def _read(self, reader: ReadWarc) -> Iterator[Page | Unreadable]:
        """The input file's pages; storage that fails is the user's to mend, in one line."""
        path = self._unit.arguments["path"]
        try:
            yield from reader.pages(path, self._unit.arguments["file"], self._records)
        except (OSError, ReadFailed) as error:
            text = getattr(error, "strerror", None) or str(error)
            hint = "check that every worker can read it and run the same command again"
            raise UserError(f"input {path} cannot be read ({text}); {hint}") from error

    def _judged_pages(self, pages: Iterable[Page | Unreadable]) -> Iterator[Page | Unreadable | Refused]:
        """Counts pages as read and shows them to the stages before the extraction."""
        reader, stages = self._job.reader, [(stage, self._tallies[stage.name]) for stage in self._job.page_stages]
        assert reader is not None
        reading = self._tallies[reader.name]
        for page in pages:
            if isinstance(page, Unreadable):
                yield page
                continue
            reading.count(Verdict())
            for stage, tally in stages:
                start = time.perf_counter()
                with naming(stage, page):
                    verdict, measures = take_measures(stage.page_measures(page))
                tally.seconds += time.perf_counter() - start
                if not tally.count(verdict, measures):
                    yield Refused(page, stage.name, verdict)
                    break
            else:
                yield page

    def _found(self) -> Iterator[Document]:
        """Documents of the job before, after what the corpus stage between found in them."""
        job, stage = self._job, self._job.finder
        assert stage is not None
        tally = self._tallies[stage.name]
        findings = stage.load(job.findings, *self._unit.arguments["findings"])
        documents = parquet.read_documents(storage.join(job.input, f"{self._unit.name}.parquet"))
        for row, document in enumerate(tally.timed(documents)):
            start = time.perf_counter()
            with naming(stage, document):
                outcome = stage.apply_finding(document, findings.get(row))
            tally.seconds += time.perf_counter() - start
            if self._keeps(stage.name, outcome):
                yield outcome.document

    def _keyed(self, documents: Iterable[Document], stage: CorpusStage, stack: ExitStack) -> Iterator[Document]:
        """Passes documents on; at their end their keys are written. A row is a document's place among them."""
        file = stack.enter_context(storage.atomic_writer(storage.join(self._job.folder, f"{self._unit.name}.keys")))
        writer = stage.start(file)
        last = None
        for last in documents:
            start = time.perf_counter()
            with naming(stage, last, batched=True):
                writer.add(last)
            self._key_seconds += time.perf_counter() - start
            yield last
        start = time.perf_counter()
        with naming(stage, last, batched=True) if last is not None else nullcontext():
            writer.close()
        self._key_seconds += time.perf_counter() - start


def _without_text(page: Page) -> Document:
    """A page that gave no text as a row for `rejected`; file and offset say where its HTML is."""
    return parquet.unreadable_document(
        Unreadable(page.id, page.file, page.offset, page.source, page.url, page.date, "", None, "")
    )
