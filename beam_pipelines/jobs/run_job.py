"""Jobs over units: pure functions of files, skipped where their result stands, whatever runner carries them.

A unit is one input file or shard. Its function reads files, writes files under temporary names, renames them and
last writes `<unit>.json` with counts and the fingerprint of all it depended on. A later run with the same fingerprint
skips the unit; one with another redoes it. A job's `manifest.json` comes after all of its units.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from typing import Any

from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.files.read_ahead import read_ahead
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit, result_path
from t5x_style.files import fingerprint
from t5x_style.progress import Progress

MANIFEST = "manifest.json"
POLL_SECONDS = 0.5
POLL_SECONDS_REMOTE = 15.0


class Results(Mapping[str, dict]):
    """Unit name -> result, read when asked for; going through `values()` or `items()` reads ahead and keeps nothing."""

    def __init__(self, folder: str, names: Sequence[str]):
        self._folder, self._names = folder, dict.fromkeys(names)

    def __getitem__(self, name: str) -> dict:
        if name not in self._names:
            raise KeyError(name)
        return storage.read_json(result_path(self._folder, name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def read(self) -> Iterator[tuple[str, dict]]:
        """All pairs in order; many remote files at once."""
        remote = not storage.is_local(self._folder)
        results = read_ahead(self.__getitem__, self._names) if remote else map(self.__getitem__, self._names)
        return zip(self._names, results, strict=True)

    def items(self) -> ItemsView[str, dict]:
        """See `read`."""
        return _Items(self)

    def values(self) -> ValuesView[dict]:
        """See `read`."""
        return _Values(self)


class _Items(ItemsView[str, dict]):
    def __init__(self, results: Results):
        super().__init__(results)
        self._results = results

    def __iter__(self) -> Iterator[tuple[str, dict]]:
        return self._results.read()


class _Values(ValuesView[dict]):
    def __init__(self, results: Results):
        super().__init__(results)
        self._results = results

    def __iter__(self) -> Iterator[dict]:
        return (result for _, result in self._results.read())


def _standing(folder: str, units: Sequence[Unit], manifest: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Names of the units that have a result: (with the right fingerprint, with another).

    A manifest is written after all of its units and deleted before any of them changes, so where it equals `manifest`
    only the names are looked at.
    """
    there = set(storage.list_files(folder, ".json"))
    names = [unit.name for unit in units if f"unit-{unit.name}.json" in there]
    if MANIFEST in there and storage.read_json(storage.join(folder, MANIFEST)) == manifest:
        return set(names), set()
    wanted = {unit.name: unit.fingerprint for unit in units}
    right = {name for name, result in Results(folder, names).items() if result.get("fingerprint") == wanted[name]}
    return right, set(names) - right


class _Watch(threading.Thread):
    """Moves the progress bar as result files appear; works the same on every runner."""

    def __init__(self, folder: str, names: set[str], done: int, progress: Progress):
        super().__init__(daemon=True)
        self._folder, self._names, self._done, self._progress = folder, names, done, progress
        self._ended = threading.Event()

    def run(self) -> None:
        wait = POLL_SECONDS if storage.is_local(self._folder) else POLL_SECONDS_REMOTE
        while not self._ended.wait(wait):
            present = self._names.intersection(storage.list_files(self._folder, ".json"))
            self._progress.update(self._done + len(present))

    def stop(self) -> None:
        self._ended.set()
        self.join()


@dataclass(frozen=True)
class Job:
    """Units that one Beam graph runs, and where their results go.

    Attributes:
      name: for people, unique in a pipeline.
      folder: holds `unit-<name>.json` per unit and `manifest.json`.
      units: all units, finished or not.
      configuration: what the manifest records beside the units.
      function: called as function(unit) on a worker; writes the unit's files, then `write_result`.
    """

    name: str
    folder: str
    units: Sequence[Unit]
    configuration: Mapping[str, Any]
    function: Callable[..., None]


@dataclass(frozen=True)
class ShuffleJob(Job):
    """A job whose units are the parts of a shuffle.

    Attributes:
      sources: units whose keys are read; all are read whatever part is wanted.
      emit: emit(source, wanted part indices) -> (part index, (source index, block)) pairs; no text in a block.
      function: called as function(unit, blocks); blocks are (source index, block), sorted by source index.
    """

    sources: Sequence[Unit] = ()
    emit: Callable[[Unit, frozenset[int]], Iterable[tuple[int, tuple[int, bytes]]]] | None = None


def run_job(runner: Runner, job: Job) -> Results:
    """Runs the unfinished units of a job and writes its manifest.

    Returns:
      unit name -> result, in the order of `job.units`.

    Raises:
      RuntimeError: the runner said it was done but a unit has no result.
    """
    manifest = _manifest(job)
    finished, stale = _standing(job.folder, job.units, manifest)
    pending = [unit for unit in job.units if unit.name not in finished]
    path = storage.join(job.folder, MANIFEST)
    if pending:
        storage.delete(path)
        with Progress(job.name, total=len(job.units), unit="units") as progress:
            progress.update(len(finished))
            watch = _Watch(job.folder, {f"unit-{unit.name}.json" for unit in pending}, len(finished), progress)
            for name in stale:  # results of other fingerprints: gone before anything of theirs is overwritten
                storage.delete(result_path(job.folder, name))
            watch.start()
            try:
                _run_pending(runner, job, pending)
            finally:
                watch.stop()
            progress.update(len(job.units))
        missing = sorted({unit.name for unit in pending} - _standing(job.folder, pending, {})[0])
        if missing:
            raise RuntimeError(f"{job.name}: the runner ended without the results of {missing[:5]} ({len(missing)})")
    if pending or not storage.exists(path) or storage.read_json(path) != manifest:
        storage.write_json(path, manifest)
    logging.debug("%s: %d of %d units were already done", job.name, len(finished), len(job.units))
    return Results(job.folder, [unit.name for unit in job.units])


def _run_pending(runner: Runner, job: Job, pending: list[Unit]) -> None:
    if isinstance(job, ShuffleJob):
        assert job.emit is not None
        names = {unit.name for unit in pending}
        wanted = [index for index, unit in enumerate(job.units) if unit.name in names]
        emit, reduce = _Emit(job.emit, frozenset(wanted)), _Reduce(job.function, job.units)
        runner.run_shuffle(job.name, job.sources, wanted, emit, reduce, job.folder)
    else:
        runner.run_units(job.name, pending, job.function, job.folder)


@dataclass(frozen=True)
class _Emit:
    """`emit` with the wanted parts bound; a class so that every runner can pickle it."""

    emit: Callable[[Unit, frozenset[int]], Iterable[tuple[int, tuple[int, bytes]]]]
    wanted: frozenset[int]

    def __call__(self, source: Unit) -> Iterable[tuple[int, tuple[int, bytes]]]:
        return self.emit(source, self.wanted)


@dataclass(frozen=True)
class _Reduce:
    """Calls a part's function with its blocks in the order of the sources, whatever order they arrived in."""

    function: Callable[..., None]
    units: Sequence[Unit]

    def __call__(self, keyed: tuple[int, Iterable[tuple[int, bytes]]]) -> None:
        part, blocks = keyed
        self.function(self.units[part], sorted(blocks, key=lambda item: item[0]))


def _manifest(job: Job) -> dict[str, Any]:
    manifest = {
        "job": job.name,
        "configuration": job.configuration,
        "units": [{"name": unit.name, "fingerprint": unit.fingerprint, **unit.arguments} for unit in job.units],
        "fingerprint": fingerprint([unit.fingerprint for unit in job.units]),
    }
    return json.loads(json.dumps(manifest))  # as it comes back from the file: no tuples
