"""Runs one unit of the crawl: renders its pages, writes its WARC file and its counts, under temporary names first."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from beam_pipelines.sources.documentation.objects import DocumentedObject, documented_objects
from beam_pipelines.sources.documentation.pages import (
    module_url,
    object_page,
    object_url,
    with_meta,
)
from beam_pipelines.sources.documentation.plan import Settings, Unit, capped
from beam_pipelines.sources.documentation.pydoc_pages import render_modules
from beam_pipelines.sources.documentation.warc import PageWriter
from t5x_style.files import atomic_write_json

COUNTS = "counts"


def counts_path(folder: Path, unit: Unit) -> Path:
    """Where a unit's counts are; the file exists exactly when the unit is finished."""
    return folder / COUNTS / f"{unit.file_name.removesuffix('.warc.gz')}.json"


def run_unit(unit: Unit, folder: Path, settings: Settings) -> dict[str, Any]:
    """Writes `unit`'s WARC file, then its counts.

    Returns:
      {"file", "bytes", "characters", "pages": {package: {kind: n}}, "dropped": {package: {reason: n}},
      "hung": [module], "crashed": [module]}.
    """
    target = folder / unit.file_name
    temporary = folder / f".{unit.file_name}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            writer = PageWriter(file)
            counts = _write_modules(unit, writer, settings) if unit.modules else _write_objects(unit, writer, settings)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    counts |= {"file": unit.file_name, "bytes": target.stat().st_size}
    atomic_write_json(counts_path(folder, unit), counts)
    return counts


def _plain(counts: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {package: dict(counter) for package, counter in counts.items()}


def _capped(objects: list[DocumentedObject], most: int) -> list[DocumentedObject]:
    keep = capped([thing.qualified_name for thing in objects], [len(thing.docstring) for thing in objects], most)
    return [thing for position, thing in enumerate(objects) if position in keep]


def _write_objects(unit: Unit, writer: PageWriter, settings: Settings) -> dict[str, Any]:
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, list[DocumentedObject]] = defaultdict(list)
    for source in unit.sources:
        text = Path(source.path).read_text(encoding="utf-8", errors="replace")
        objects, skipped = documented_objects(
            text, source.package, source.module, settings.minimum, settings.method_minimum
        )
        found[source.package] += objects
        dropped[source.package] += skipped
    pages: dict[str, Counter[str]] = defaultdict(Counter)
    characters = 0
    versions = dict(unit.versions)
    within_quota = None
    if unit.quota:
        everything = [thing for objects in found.values() for thing in objects]
        within_quota = {thing.qualified_name for thing in _capped(everything, unit.quota)}
    for package, objects in found.items():
        before = len(objects)
        objects = _capped(objects, settings.package_pages)
        if before > len(objects):
            dropped[package]["object: over the package's cap"] += before - len(objects)
        if within_quota is not None:
            before = len(objects)
            objects = [thing for thing in objects if thing.qualified_name in within_quota]
            dropped[package]["object: over --max_pages"] += before - len(objects)
        siblings: dict[str, list[str]] = defaultdict(list)
        for thing in objects:
            siblings[thing.module].append(thing.name)
        for thing in objects:
            page = object_page(thing, siblings[thing.module], versions[package])
            writer.write(object_url(thing.module, thing.name), page)
            pages[package][thing.kind] += 1
            characters += len(page)
    return {"characters": characters, "pages": _plain(pages), "dropped": _plain(dropped), "hung": [], "crashed": []}


def _write_modules(unit: Unit, writer: PageWriter, settings: Settings) -> dict[str, Any]:
    dropped: dict[str, Counter[str]] = defaultdict(Counter)
    for package, count in unit.dropped:
        dropped[package]["module: over the package's cap"] = count
    pages: dict[str, Counter[str]] = defaultdict(Counter)
    stopped: dict[str, list[str]] = {"hung": [], "crashed": []}
    characters = 0
    for module, outcome, page in render_modules(unit.modules, settings.module_timeout):
        package = module.split(".")[0]
        if outcome != "ok":
            dropped[package][f"module: {outcome}"] += 1
            if outcome in stopped:
                stopped[outcome].append(module)
            continue
        page = with_meta(page, {"kind": "module", "package": package, "module": module})
        writer.write(module_url(module), page)
        pages[package]["module"] += 1
        characters += len(page)
    return {"characters": characters, "pages": _plain(pages), "dropped": _plain(dropped), **stopped}
