"""Applies quality models and decontamination to cleaned documents.

python -m beam_pipelines.score_quality --documents 'web/documents/*.parquet' --output DIR \\
    --classifier quality.bin --lm lm.npz --thresholds thresholds.json --decontamination index.npz
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit, distinct_names, file_name
from beam_pipelines.quality.buckets import BUCKETS, READERS
from beam_pipelines.quality.texts import find_files
from beam_pipelines.web.decontamination.decontaminate import ACTIONS, Decontaminate
from beam_pipelines.web.document import DocumentStage, configuration
from beam_pipelines.web.filters.fasttext_quality import FastTextQuality
from beam_pipelines.web.filters.perplexity import PerplexityBuckets
from beam_pipelines.web.score_unit import ScoreUnit
from beam_pipelines.web.tally import add_signals
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import fingerprint, require_writable

SUMMARY = "scores.json"


def score(stages: Sequence[DocumentStage], documents: Sequence[str], output: str, workers: int = 1) -> dict[str, Any]:
    """Runs the stages over every file and writes DIR/documents, rejected, scores and, last, scores.json.

    Every document of the input is in `documents` or `rejected`; `scores` has a row (id, stage, signal, value) for each
    signal that was computed. A killed run continues where it was.

    Args:
      stages: in order; a document that one rejects is not seen by the next.
      documents: globs of clean_web's documents.
      output: DIR.
      workers: processes.

    Returns:
      What scores.json holds: {"stages": [{"name", "in", "kept", "rejected", "edits", "signals", "seconds"}]}.

    Raises:
      UserError: no stage, no such documents, or a folder that holds another configuration's output.
    """
    if not stages:
        raise UserError("nothing to apply; give --classifier, --lm or --decontamination")
    paths = [os.path.abspath(path) if storage.is_local(path) else path for path in find_files(documents, "--documents")]
    if storage.is_local(output):
        require_writable(output, "--output")
    settings = [configuration(stage) for stage in stages]
    names = [file_name(name.removesuffix(".parquet")) for name in distinct_names(paths)]
    work = storage.join(output, "work")
    _claim(storage.join(work, "configuration.json"), {"stages": settings, "inputs": names}, output)
    units = [
        Unit(name, fingerprint([settings, path.rsplit("/", 1)[-1], storage.size(path)]), {"path": path})
        for name, path in zip(names, paths, strict=True)
    ]
    documents_folder, rejected, scores = (storage.join(output, name) for name in ("documents", "rejected", "scores"))
    function = ScoreUnit(work, documents_folder, rejected, scores, stages)
    with Runner(workers=workers) as runner:
        results = run_job(runner, Job("score", work, units, {"stages": settings}, function))
    sums = [_sum(stage.name, results) for stage in stages]
    summary = {"format": 1, "stages": sums}
    storage.write_json(storage.join(output, SUMMARY), summary)
    for stage in sums:
        lost = ", ".join(f"{reason} {count}" for reason, count in sorted(stage["rejected"].items()))
        logging.info("%-20s %9d -> %9d  %s", stage["name"], stage["in"], stage["kept"], lost)
    return summary


def _claim(path: str, mine: dict[str, Any], output: str) -> None:
    if not storage.exists(path):
        storage.write_json(path, mine)
    elif (theirs := storage.read_json(path)) != mine:
        different = " and ".join(key for key in mine if theirs.get(key) != mine[key])
        raise UserError(f"--output {output} holds a run with other {different}; choose another folder or delete it")


def _sum(name: str, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One stage's counts over all units."""
    total: dict[str, Any] = {"name": name, "in": 0, "kept": 0, "rejected": {}, "edits": {}, "signals": {}}
    seconds = 0.0
    for result in results.values():
        tally = result["stages"][name]
        for key in ("in", "kept"):
            total[key] += tally[key]
        for key in ("rejected", "edits"):
            for what, count in tally[key].items():
                total[key][what] = total[key].get(what, 0) + count
        add_signals(total["signals"], tally["signals"])
        seconds += tally["seconds"]
    return {**total, "seconds": round(seconds, 3)}


def run(argv: Sequence[str]) -> None:
    """Parses the command line and scores."""
    parser = command_line.parser("beam_pipelines.score_quality", __doc__, allow_abbrev=False)
    parser.add_argument("--documents", nargs="+", required=True, metavar="GLOB", help="clean_web's Parquet files")
    parser.add_argument("--output", required=True, metavar="DIR", help="documents/, rejected/, scores/, scores.json")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--classifier", metavar="FILE", help="fastText model")
    parser.add_argument("--min_score", type=float, default=0.25, help="of the classifier (default LLaMA's 0.25)")
    parser.add_argument("--lm", metavar="FILE", help="n-gram model: lm.npz or an ARPA file; needs --thresholds")
    parser.add_argument("--thresholds", metavar="FILE", help="beam_pipelines.perplexity_thresholds writes it")
    parser.add_argument("--keep", nargs="+", choices=BUCKETS, default=BUCKETS[:2], help="(default head middle)")
    parser.add_argument("--reader", choices=READERS, default="own", help="of the n-gram model (default own)")
    parser.add_argument("--decontamination", metavar="FILE", help="build_decontamination_index's index")
    parser.add_argument("--action", choices=ACTIONS, default="cut", help="on contaminated documents (default cut)")
    parser.add_argument("--max_documents", type=int, help="ignore n-grams in more training documents")
    arguments = parser.parse_args(argv)
    score(_stages(arguments), arguments.documents, arguments.output, arguments.workers)


def _stages(arguments: argparse.Namespace) -> list[DocumentStage]:
    """The stages that the options ask for: decontamination first, so that models see what stays."""
    if bool(arguments.lm) != bool(arguments.thresholds):
        raise UserError("--lm and --thresholds go together")
    stages: list[DocumentStage] = []
    if arguments.decontamination:
        stages.append(Decontaminate(arguments.decontamination, arguments.action, max_documents=arguments.max_documents))
    if arguments.classifier:
        stages.append(FastTextQuality(arguments.classifier, threshold=arguments.min_score))
    if arguments.lm:
        stages.append(PerplexityBuckets(arguments.lm, arguments.thresholds, arguments.keep, reader=arguments.reader))
    return stages


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
