"""Runs the units of the documentation crawl on a pool of processes and writes crawl.json last."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.sources.documentation.packages import Distribution, core_closure, distribution_sources
from beam_pipelines.sources.documentation.packages import standard_library as standard_library_sources
from beam_pipelines.sources.documentation.plan import Settings, Unit, plan
from beam_pipelines.sources.documentation.pydoc_worker import end_with_parent
from beam_pipelines.sources.documentation.units import COUNTS, counts_path, run_unit
from t5x_style.errors import UserError
from t5x_style.files import atomic_write_json, read_json, require_writable
from t5x_style.progress import Progress

FORMAT = 1
MIN_PAGES = 2000  # of a crawl that can train a model worth looking at


def distributions_to_document() -> tuple[list[Distribution], list[str]]:
    """The standard library and the installed core distributions, and the names of those not installed."""
    installed, missing = core_closure()
    return [standard_library_sources(), *(distribution_sources(each) for each in installed)], missing


def crawl(output: str, settings: Settings, workers: int = 2, min_pages: int = MIN_PAGES) -> dict[str, Any]:
    """Writes `output`/crawl/part-*.warc.gz and crawl.json; finished parts of an interrupted run are kept.

    Args:
      output: the folder above `crawl/`.
      settings: what to document.
      workers: processes.
      min_pages: fewer pages in all are an error; where `max_pages` asks for a sample, half of that if it is less.

    Returns:
      crawl.json's content.

    Raises:
      UserError: the folder holds another crawl, cannot be written, or too few pages were found.
    """
    folder = require_writable(Path(output) / "crawl", "--output")
    distributions, missing = distributions_to_document()
    config = {
        "format": FORMAT,
        "settings": dataclasses.asdict(settings) | {"packages": list(settings.packages)},
        "distributions": {each.name: each.version for each in distributions},
    }
    _check_config(folder, config)
    report_path = folder / "crawl.json"
    if report_path.exists():
        logging.info("%s is complete, nothing to do", report_path)
        return read_json(report_path)
    units = plan(distributions, settings)
    results = _run_units(units, folder, settings, workers)
    report = summarise(results, distributions, missing) | {"config": config}
    if settings.max_pages:
        min_pages = min(min_pages, settings.max_pages // 2)
    if report["total_pages"] < min_pages:
        raise UserError(
            f"the documentation crawl gave {report['total_pages']} pages, under the {min_pages} a run needs; "
            f"install the project's requirements, or pass --min_pages (counts: {folder / COUNTS})"
        )
    atomic_write_json(report_path, report)
    return report


def _check_config(folder: Path, config: dict[str, Any]) -> None:
    path = folder / "config.json"
    if not path.exists():
        atomic_write_json(path, config)
        return
    recorded = read_json(path)
    if recorded != config:
        different = sorted(key for key in config if recorded.get(key) != config[key])
        raise UserError(f"{folder} holds a crawl with other {', '.join(different)}; delete it or pass another --output")


def _run_units(units: list[Unit], folder: Path, settings: Settings, workers: int) -> list[dict[str, Any]]:
    results = {unit.index: read_json(counts_path(folder, unit)) for unit in units if counts_path(folder, unit).exists()}
    for left in folder.glob(".part-*.tmp"):  # of a killed run
        left.unlink()
    waiting = [unit for unit in units if unit.index not in results]
    if results:
        logging.info("crawl: %d of %d parts were already there", len(results), len(units))
    with Progress("crawl documentation", total=len(units), unit="parts") as progress:
        progress.advance(len(results))
        # spawn: a fork of a process with threads (progress bar) may deadlock.
        processes = max(1, min(workers, len(waiting)))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, context, end_with_parent, (os.getpid(),)) as pool:
            futures = {pool.submit(run_unit, unit, folder, settings): unit for unit in waiting}
            try:
                for future in as_completed(futures):
                    results[futures[future].index] = future.result()
                    progress.advance(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [results[unit.index] for unit in units]


def summarise(results: list[dict[str, Any]], distributions: list[Distribution], missing: list[str]) -> dict[str, Any]:
    """crawl.json: pages and what was dropped and why, in all and per package."""
    pages: dict[str, Counter[str]] = defaultdict(Counter)
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results:
        for package, counts in result["pages"].items():
            pages[package].update(counts)
        for package, counts in result["dropped"].items():
            dropped[package].update(counts)
    kinds: Counter[str] = sum(pages.values(), Counter())
    reasons: Counter[str] = sum(dropped.values(), Counter())
    without_files = [each.name for each in distributions if not each.sources]
    return {
        "format": FORMAT,
        "total_pages": kinds.total(),
        "pages": dict(kinds),
        "dropped": dict(reasons),
        "characters": sum(result["characters"] for result in results),
        "bytes": sum(result["bytes"] for result in results),
        "packages": {
            package: {"pages": dict(pages[package]), "dropped": dict(dropped[package])}
            for package in sorted(pages.keys() | dropped.keys())
        },
        "hung": [module for result in results for module in result["hung"]],
        "crashed": [module for result in results for module in result["crashed"]],
        "not_installed": missing,
        "without_python_sources": without_files,
        "parts": [
            {"file": result["file"], "bytes": result["bytes"], "pages": sum(map(sum, _values(result["pages"])))}
            for result in results
        ],
    }


def _values(pages: dict[str, dict[str, int]]) -> list[list[int]]:
    return [list(counts.values()) for counts in pages.values()]
