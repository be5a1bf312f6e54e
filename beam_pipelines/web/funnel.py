"""The funnel: what came in, stayed and went at every stage, counted again from the files that were written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, write_result
from beam_pipelines.web.report.samples import Picks
from beam_pipelines.web.tally import add_signals


@dataclass(frozen=True)
class CountFiles:
    """Counts one unit's rows in `documents` and, by stage and reason, in all its `rejected` files."""

    folder: str
    documents: str
    rejected: str
    suffixes: Sequence[str]

    def __call__(self, unit: Unit) -> None:
        """Writes the counts as the unit's result."""
        import pyarrow.parquet as pq

        with storage.open_read(storage.join(self.documents, f"{unit.name}.parquet")) as file:
            documents = pq.ParquetFile(file).metadata.num_rows
        reasons: Counter[tuple[str, str]] = Counter()
        for suffix in self.suffixes:
            with storage.open_read(storage.join(self.rejected, f"{unit.name}.{suffix}.parquet")) as file:
                table = pq.read_table(file, columns=["stage", "reason"])
            reasons.update(zip(table.column("stage").to_pylist(), table.column("reason").to_pylist(), strict=True))
        rejected: dict[str, dict[str, int]] = {}
        for (stage, reason), count in sorted(reasons.items()):
            rejected.setdefault(stage, {})[reason] = count
        write_result(self.folder, unit, {"documents": documents, "rejected": rejected})


def funnel(
    names: Sequence[str],
    map_results: Sequence[Mapping[str, dict]],
    file_counts: Mapping[str, dict],
    extra_seconds: Mapping[str, float],
    picks: Picks,
) -> dict[str, Any]:
    """The contents of stats.json; every result is read once and not kept.

    Args:
      names: the stages' names, in order.
      map_results: per map job, unit name -> result of `map_job.MapUnit`, in input order.
      file_counts: unit name -> result of `CountFiles`.
      extra_seconds: stage name -> seconds spent outside the stages' own tallies (keys and shuffles).
      picks: takes the units' sample candidates.

    Returns:
      {"stages": [{"name", "in", "kept", "rejected", "edits", "signals", "seconds"}], "records", "documents",
      "characters"}; seconds are summed over workers, signals are histograms (see `tally`).

    Raises:
      RuntimeError: the stages' counts and the files disagree, or a stage does not add up.
    """
    stages: dict[str, dict[str, Any]] = {
        name: {"name": name, "in": 0, "kept": 0, "rejected": Counter(), "edits": Counter(), "signals": {}}
        for name in names
    }
    seconds = {name: extra_seconds.get(name, 0.0) for name in names}
    records: Counter[str] = Counter()
    documents = characters = 0
    for job, results in enumerate(map_results):
        last = job == len(map_results) - 1
        for unit, result in enumerate(results.values()):
            records.update(result["records"])
            picks.add(job, unit, result["candidates"], last)
            if last:
                documents += result["documents"]
                characters += result["characters"]
            for name, tally in result["stages"].items():
                stage = stages[name]
                stage["in"] += tally["in"]
                stage["kept"] += tally["kept"]
                stage["rejected"].update(tally["rejected"])
                stage["edits"].update(tally["edits"])
                add_signals(stage["signals"], tally["signals"])
                seconds[name] += tally["seconds"]
    stats = {
        "stages": [
            {
                **stage,
                "rejected": dict(sorted(stage["rejected"].items())),
                "edits": dict(sorted(stage["edits"].items())),
                "seconds": round(seconds[name], 3),
            }
            for name, stage in stages.items()
        ],
        "records": dict(sorted(records.items())),
        "documents": documents,
        "characters": characters,
    }
    check(stats, file_counts)
    return stats


def check(stats: Mapping[str, Any], file_counts: Mapping[str, dict]) -> None:
    """Raises RuntimeError unless every stage adds up and the files hold exactly what the stages counted."""
    rejected: dict[str, Counter[str]] = {}
    documents = 0
    for counts in file_counts.values():
        documents += counts["documents"]
        for stage, reasons in counts["rejected"].items():
            rejected.setdefault(stage, Counter()).update(reasons)
    problems = []
    before = None
    for stage in stats["stages"]:
        name, lost = stage["name"], sum(stage["rejected"].values())
        if stage["in"] != stage["kept"] + lost:
            problems.append(f"{name}: {stage['in']} in, {stage['kept']} kept, {lost} rejected")
        if before is not None and stage["in"] != before["kept"]:
            problems.append(f"{name}: {stage['in']} in, but {before['name']} kept {before['kept']}")
        if dict(rejected.get(name, {})) != stage["rejected"]:
            problems.append(f"{name}: counted {stage['rejected']}, files hold {dict(rejected.get(name, {}))}")
        before = stage
    for name in sorted(rejected.keys() - {stage["name"] for stage in stats["stages"]}):
        problems.append(f"rejected/ holds documents of {name!r}, which is no stage")
    if before is not None and documents != before["kept"]:
        problems.append(f"{before['name']} kept {before['kept']}, documents/ holds {documents}")
    if problems:
        raise RuntimeError(f"the funnel does not add up: {'; '.join(problems)}")
