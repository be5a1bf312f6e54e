"""What a stage needs that sees more than one document: deduplication, the cutting of repeated spans.

Such a stage works in three steps, none of which moves text:

1. On the workers, in the map job before it, `start(file)` gives a writer that takes every document of a unit in order
   and leaves `<unit>.keys`.
2. On the driver, `find(corpus)` runs jobs over those files and returns where the findings are.
3. On the workers, in the map job after it, `load` reads a unit's findings and `apply` drops or cuts each document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, Protocol, runtime_checkable

from beam_pipelines.jobs.run_job import Job, ShuffleJob, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.document import Document, Outcome, Stage


class Findings(NamedTuple):
    """The result of `find`.

    Attributes:
      path: file or folder that `load` reads.
      ranges: unit name -> (start, stop, digest): its share of `path` in whatever unit the stage counts, and a
        fingerprint of that share; a unit whose digest stays the same is not written again.
    """

    path: str
    ranges: Mapping[str, tuple[int, int, str]]


class KeyWriter(Protocol):
    """Takes a unit's documents in order."""

    def add(self, document: Document) -> None:
        """The next document; its row is its place among those added."""
        ...

    def close(self) -> None:
        """Writes what is left; the caller closes the file."""
        ...


@dataclass(frozen=True)
class Corpus:
    """What `find` works on.

    Attributes:
      units: one per input file, in input order; `arguments["index"]` is the place in that order.
      key: fingerprint of everything the units' documents depend on; fingerprints of jobs start from it.
      keys: folder of the `<unit>.keys` files.
      documents: folder of the `<unit>.parquet` files, for columns such as the id.
      output: the run's folder, for results that are for people (`clusters/`).
      runner: carries the jobs.
      new_job: returns (name, folder) of the stage's next job, numbered in the order of the calls.
      described: what the jobs' manifests record.
    """

    units: Sequence[Unit]
    key: str
    keys: str
    documents: str
    output: str
    runner: Runner
    new_job: Callable[[], tuple[str, str]]
    described: Mapping[str, Any]

    def map(self, units: Sequence[Unit], make: Callable[[str], Callable[..., None]]) -> tuple[str, Mapping[str, dict]]:
        """Runs a job of `units` with the function that `make(folder)` returns: (folder, unit name -> result)."""
        name, folder = self.new_job()
        return folder, run_job(self.runner, Job(name, folder, units, self.described, make(folder)))

    def shuffle(
        self,
        parts: Sequence[Unit],
        emit: Callable[..., Any],
        make: Callable[[str], Callable[..., None]],
        sources: Sequence[Unit] | None = None,
    ) -> tuple[str, Mapping[str, dict]]:
        """Runs a shuffle from the units (or other `sources`) to `parts`: (folder, part name -> result).

        See `units.ShuffleJob` for `emit` and for the function that `make(folder)` returns.
        """
        name, folder = self.new_job()
        job = ShuffleJob(
            name,
            folder,
            parts,
            self.described,
            make(folder),
            sources=self.units if sources is None else sources,
            emit=emit,
        )
        return folder, run_job(self.runner, job)


@runtime_checkable
class CorpusStage(Stage, Protocol):
    """A stage that needs to see the whole corpus; see the module's docstring."""

    def start(self, file: IO[bytes]) -> KeyWriter:
        """On a worker: a writer of one unit's keys."""
        ...

    def find(self, corpus: Corpus) -> Findings:
        """On the driver: runs the jobs that find what is to go."""
        ...

    def load(self, path: str, start: int, stop: int) -> Mapping[int, Any]:
        """On a worker: row -> finding for the documents of one unit that something was found in."""
        ...

    def apply_finding(self, document: Document, finding: Any) -> Outcome:
        """On a worker: what becomes of a document; `finding` is None where nothing was found."""
        ...
