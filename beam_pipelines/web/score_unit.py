"""One file of documents through stages: what stays, what goes and why, and every signal of every document."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pyarrow as pa

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web import parquet
from beam_pipelines.web.document import Document, DocumentStage
from beam_pipelines.web.tally import Tally
from t5x_style.errors import UserError

SCORES = pa.schema([("id", pa.string()), ("stage", pa.string()), ("signal", pa.string()), ("value", pa.float64())])


@dataclass(frozen=True)
class ScoreUnit:
    """Writes a unit's documents, rejected documents and scores; a unit's arguments hold the `path` it reads.

    Attributes:
      folder: the job's own.
      documents, rejected, scores: folders of its outputs.
      stages: what looks at each document, in order.
    """

    folder: str
    documents: str
    rejected: str
    scores: str
    stages: Sequence[DocumentStage]

    def __call__(self, unit: Unit) -> None:
        """Runs one unit."""
        tallies = {stage.name: Tally() for stage in self.stages}
        with ExitStack() as stack:

            def table(folder: str, schema: pa.Schema) -> parquet.Table:
                path = storage.join(folder, f"{unit.name}.parquet")
                return stack.enter_context(parquet.Table(stack.enter_context(storage.atomic_writer(path)), schema))

            kept, rejected = table(self.documents, parquet.DOCUMENTS), table(self.rejected, parquet.REJECTED)
            scores = table(self.scores, SCORES)
            try:
                for document in parquet.read_documents(unit.arguments["path"]):
                    self._judge(document, tallies, kept, rejected, scores)
            except (pa.ArrowInvalid, TypeError) as error:
                raise UserError(f"{unit.arguments['path']}: not documents of clean_web ({error})") from error
        write_result(self.folder, unit, {"stages": {name: tally.result() for name, tally in tallies.items()}})

    def _judge(
        self,
        document: Document,
        tallies: dict[str, Tally],
        kept: parquet.Table,
        rejected: parquet.Table,
        scores: parquet.Table,
    ) -> None:
        for stage in self.stages:
            tally = tallies[stage.name]
            start = time.perf_counter()
            document, verdict, measures, edits = stage.apply(document)
            tally.seconds += time.perf_counter() - start
            for measure in measures:
                scores.add((document.id, stage.name, measure.signal, float(measure.value)), 0)
            if not tally.count(verdict, measures, edits):
                rejected.add(parquet.rejected_row(document, stage.name, verdict), len(document.text))
                return
        kept.add(parquet.document_row(document), len(document.text))
