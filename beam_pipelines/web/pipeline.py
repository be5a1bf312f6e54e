"""The driver: plans a recipe's jobs over the inputs, runs them in order, adds up the funnel.

For read, extract, A, exact_dedup, B, minhash_dedup the jobs are

    00-read            map      crawled file -> documents after A, keys of exact_dedup
    01-exact_dedup     shuffle  keys -> edges
    02-exact_dedup     reduce   edges -> documents to drop
    03-exact_dedup     map      documents -> documents without those, after B, keys of minhash_dedup
    04-, 05-, 06-minhash_dedup  the same; the last one writes DIR/documents
    07-count           map      counts the rows of the files that were written

Each has a folder in DIR/work. A unit's fingerprint covers the unit before it, so that a new input redoes its own
units and, of the others, only those whose duplicates change.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from beam_pipelines import storage
from beam_pipelines.runners import Runner
from beam_pipelines.units import Job, ShuffleJob, Unit, distinct_names, file_name, run_job
from beam_pipelines.web.dedup import DedupStage, EmitKeys, JoinClusters, WriteEdges
from beam_pipelines.web.document import DocumentStage, configuration
from beam_pipelines.web.funnel import CountFiles, funnel
from beam_pipelines.web.map_job import MapUnit
from beam_pipelines.web.recipe import CleanWeb
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

LIBRARIES = ("fastwarc", "resiliparse", "trafilatura", "fasttext-numpy2-wheel", "xxhash", "pyarrow", "numpy")


def code_version() -> str:
    """Version of everything that a document's text depends on: this package's files and the libraries it calls."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return f"{digest.hexdigest()[:12]}, {', '.join(versions)}"


def clean(recipe: CleanWeb, inputs: Sequence[str], output: str, runner: Runner) -> dict[str, Any]:
    """Runs what is unfinished of a recipe and writes DIR/stats.json.

    Args:
      recipe: the stages.
      inputs: paths of WARC or WET files; their order is the input order that deduplication keeps to.
      output: DIR.
      runner: open.

    Returns:
      What stats.json holds; see `funnel.funnel`.

    Raises:
      UserError: DIR holds the output of another configuration, of other code or of files that are no longer given.
    """
    return _Run(recipe, inputs, output, runner).run()


class _Run:
    """One run over one output folder."""

    def __init__(self, recipe: CleanWeb, inputs: Sequence[str], output: str, runner: Runner):
        self._recipe, self._output, self._runner = recipe, output, runner
        self._files = distinct_names(inputs)
        self._names = [file_name(name) for name in self._files]
        self._paths = [os.path.abspath(path) if storage.is_local(path) else path for path in inputs]
        self._job_count = 0
        self._seconds: dict[str, float] = {}
        self._suffixes: list[str] = []

    def run(self) -> dict[str, Any]:
        self._claim_folder()
        units = [
            Unit(name, fingerprint([self._recipe_key, file, size]), {"path": path, "file": file, "size": size})
            for name, file, path, size in zip(
                self._names, self._files, self._paths, map(storage.size, self._paths), strict=True
            )
        ]
        segments = self._recipe.segments()
        results, documents = [], ""
        for index, (dropping, stages) in enumerate(segments):
            keying = segments[index + 1][0] if index + 1 < len(segments) else None
            drops = ""
            if dropping is not None:
                drops, ranges = self._deduplicate(dropping, units, documents)
                units = [
                    Unit(
                        unit.name,
                        fingerprint([unit.fingerprint, ranges[unit.name][2]]),
                        {"drops": ranges[unit.name][:2]},
                    )
                    for unit in units
                ]
            job, target = self._map_job(dropping, stages, keying, units, documents, drops)
            results.append(run_job(self._runner, job))
            self._folder_of_keys, documents = job.folder, target
            if keying is not None:
                self._add_seconds(keying.name, sum(result["key_seconds"] for result in results[-1].values()))
        counts = self._count(units)
        stats = funnel([stage.name for stage in self._recipe.stages], results, counts, self._seconds)
        self._finish(stats)
        return stats

    @property
    def _recipe_key(self) -> str:
        return fingerprint([self._recipe.configuration(), self._code])

    def _claim_folder(self) -> None:
        """Marks DIR as this configuration's, or refuses."""
        self._code = code_version()
        path = storage.join(self._output, "work", "configuration.json")
        mine = {"configuration": self._recipe.configuration(), "code": self._code}
        if storage.exists(path):
            theirs = storage.read_json(path)
            for what in ("configuration", "code"):
                if theirs.get(what) != mine[what]:
                    where = _difference(theirs.get(what), mine[what])
                    raise UserError(
                        f"--output {self._output} holds a run with another {what} ({where}); "
                        "choose another folder or delete this one"
                    )
        elif storage.list_files(storage.join(self._output, "documents"), ".parquet"):
            raise UserError(f"--output {self._output} holds documents of something else; choose another folder")
        else:
            storage.write_json(path, mine)
        known = {f"{name}.parquet" for name in self._names}
        left = [n for n in storage.list_files(storage.join(self._output, "documents"), ".parquet") if n not in known]
        first = storage.join(self._output, "work", "00-read", "documents")
        left += [n for n in storage.list_files(first, ".parquet") if n not in known]
        if left:
            raise UserError(
                f"--output {self._output} holds documents of {left[0].removesuffix('.parquet')}, which is not among "
                "the inputs now; give it again, choose another folder or delete this one"
            )

    def _job_name(self, label: str) -> tuple[str, str]:
        """The next job's name and folder."""
        name = f"{self._job_count:02d}-{label}"
        self._job_count += 1
        return name, storage.join(self._output, "work", name)

    def _map_job(
        self,
        dropping: DedupStage | None,
        stages: Sequence[DocumentStage],
        keying: DedupStage | None,
        units: Sequence[Unit],
        documents: str,
        drops: str,
    ) -> tuple[Job, str]:
        """A map job and the folder its documents go to."""
        first = dropping is None
        head = self._recipe.reader.name if dropping is None else dropping.name
        name, folder = self._job_name(head)
        target = storage.join(folder, "documents") if keying is not None else storage.join(self._output, "documents")
        self._suffixes.append(name)
        function = MapUnit(
            folder=folder,
            documents=target,
            rejected=storage.join(self._output, "rejected"),
            suffix=name,
            reader=self._recipe.reader if first else None,
            extractor=self._recipe.extractor if first else None,
            input=documents,
            dropping=dropping,
            drops=drops,
            stages=tuple(stages),
            keying=keying,
        )
        heads = [self._recipe.reader, self._recipe.extractor] if dropping is None else [dropping]
        described = {"stages": [configuration(stage) for stage in (*heads, *stages)], "code": self._code}
        return Job(name, folder, units, described, function), target

    def _deduplicate(self, stage: DedupStage, units: Sequence[Unit], documents: str) -> tuple[str, dict[str, list]]:
        """Runs a deduplication's two jobs; returns the drops' file and {unit: [start, stop, digest] in it}."""
        start = time.perf_counter()
        described = {"stages": [configuration(stage)], "code": self._code}
        key = fingerprint([unit.fingerprint for unit in units])
        name, edges = self._job_name(stage.name)
        parts = [Unit(f"{part:05d}", key) for part in range(stage.bands * stage.hash_ranges)]
        sources = [Unit(unit.name, unit.fingerprint, {"index": index}) for index, unit in enumerate(units)]
        emit = EmitKeys(self._folder_of_keys, stage.bands, stage.width, stage.hash_ranges)
        reduce = WriteEdges(edges, stage.width, len(units))
        shuffle = ShuffleJob(name, edges, parts, described, reduce, sources=sources, emit=emit)
        run_job(self._runner, shuffle)
        name, folder = self._job_name(stage.name)
        join = JoinClusters(folder, edges, [part.name for part in parts], documents, [unit.name for unit in units])
        result = run_job(self._runner, Job(name, folder, [Unit("clusters", key)], described, join))
        self._add_seconds(stage.name, time.perf_counter() - start)
        return storage.join(folder, "drops.bin"), result["clusters"]["ranges"]

    def _add_seconds(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def _count(self, units: Sequence[Unit]) -> dict[str, dict]:
        """Counts the rows of all files, from the files."""
        name, folder = self._job_name("count")
        documents, rejected = (storage.join(self._output, kind) for kind in ("documents", "rejected"))
        count = CountFiles(folder, documents, rejected, tuple(self._suffixes))
        described = {"stages": [], "code": self._code}
        plain = [Unit(unit.name, unit.fingerprint) for unit in units]
        return run_job(self._runner, Job(name, folder, plain, described, count))

    def _finish(self, stats: dict[str, Any]) -> None:
        """Clears what killed workers left and writes stats.json if it changed in more than its seconds."""
        jobs = sorted(name for name in self._suffixes)
        folders = [storage.join(self._output, kind) for kind in ("documents", "rejected")]
        folders += [storage.join(self._output, "work", name) for name in jobs]
        folders += [storage.join(self._output, "work", name, "documents") for name in jobs]
        for folder in folders:
            storage.remove_temporaries(folder)
        path = storage.join(self._output, "stats.json")
        stats["inputs"] = [
            {"file": file, "path": path, "bytes": storage.size(path)}
            for file, path in zip(self._files, self._paths, strict=True)
        ]
        if not storage.exists(path) or _without_seconds(storage.read_json(path)) != _without_seconds(stats):
            storage.write_json(path, stats)
        else:
            stats.update(storage.read_json(path))


def _without_seconds(stats: dict[str, Any]) -> dict[str, Any]:
    stages = [{key: value for key, value in stage.items() if key != "seconds"} for stage in stats["stages"]]
    return {**stats, "stages": stages}


def _difference(theirs: Any, mine: Any, where: str = "") -> str:
    """The first place where two JSON-like values differ, for a person."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        for key in sorted({*theirs, *mine}):
            if theirs.get(key) != mine.get(key):
                prefix = f"{where}.{key}" if where else key
                return _difference(theirs.get(key), mine.get(key), prefix)
    if isinstance(theirs, list) and isinstance(mine, list) and len(theirs) == len(mine):
        for index, (one, other) in enumerate(zip(theirs, mine, strict=True)):
            if one != other:
                name = one.get("name", index) if isinstance(one, dict) else index
                return _difference(one, other, f"{where}.{name}" if where else str(name))
    text = f"{theirs!r} there, {mine!r} now"
    return f"{where}: {text}" if where and len(text) < 400 else where or "see work/configuration.json"
