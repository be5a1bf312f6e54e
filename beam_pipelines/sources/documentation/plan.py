"""Divides the crawl into units of work, each of which becomes one WARC file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.sources.documentation.packages import Distribution, Source, public_modules

# Enough work to repay a process start, little enough to share out evenly between cores.
FILES_PER_UNIT = 150
MODULES_PER_UNIT = 80


@dataclass(frozen=True)
class Settings:
    """What decides the crawl's content. The caps keep single packages (scipy, jax) from dominating."""

    packages: tuple[str, ...] = ()  # top-level import names; empty: all of them
    max_pages: int = 1200  # object pages of one package
    max_modules: int = 50  # module pages of one package, shallow ones first
    minimum: int = 60  # characters of docstring for a page of its own
    method_minimum: int = 200  # the same for a method
    module_timeout: float = 30.0  # seconds to import and render one module


@dataclass(frozen=True)
class Unit:
    """One WARC file's worth of pages: object pages of `sources`, or pydoc pages of `modules`."""

    index: int
    sources: tuple[Source, ...] = ()
    modules: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()  # of the top-level packages
    dropped: tuple[tuple[str, int], ...] = ()  # modules left out by the cap, per package

    @property
    def file_name(self) -> str:
        return f"part-{self.index:05d}.warc.gz"


def _groups(items: Sequence[tuple[str, Any]], size: int) -> Iterable[list[tuple[str, Any]]]:
    """Consecutive (package, item) pairs, at least `size` a group, no package cut in two."""
    group: list[tuple[str, Any]] = []
    for position, item in enumerate(items):
        if len(group) >= size and items[position - 1][0] != item[0]:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _versions(packages: Iterable[str], distribution_of: dict[str, Distribution]) -> tuple[tuple[str, str], ...]:
    return tuple((package, distribution_of[package].version) for package in sorted(set(packages)))


def plan(distributions: Sequence[Distribution], settings: Settings) -> list[Unit]:
    """Units in crawl order: object pages first, because deduplication keeps a text's first copy."""
    wanted = set(settings.packages)
    sources: list[tuple[str, Source]] = []
    modules: list[tuple[str, str]] = []
    distribution_of: dict[str, Distribution] = {}
    dropped: Counter[str] = Counter()
    for distribution in distributions:
        kept: Counter[str] = Counter()
        for source in distribution.sources:
            if not wanted or source.package in wanted:
                distribution_of.setdefault(source.package, distribution)
                sources.append((source.package, source))
        by_package = sorted(public_modules(distribution), key=lambda name: name.split(".")[0])
        for module in by_package:
            package = module.split(".")[0]
            if wanted and package not in wanted:
                continue
            distribution_of.setdefault(package, distribution)
            kept[package] += 1
            if kept[package] > settings.max_modules:
                dropped[package] += 1
            else:
                modules.append((package, module))
    units: list[Unit] = []
    for group in _groups(sources, FILES_PER_UNIT):
        versions = _versions((package for package, _ in group), distribution_of)
        units.append(Unit(len(units), sources=tuple(item for _, item in group), versions=versions))
    for group in _groups(modules, MODULES_PER_UNIT):
        names = {package for package, _ in group}
        units.append(
            Unit(
                len(units),
                modules=tuple(item for _, item in group),
                versions=_versions(names, distribution_of),
                dropped=tuple((package, dropped[package]) for package in sorted(names) if dropped[package]),
            )
        )
    return units


def capped(names: Sequence[str], lengths: Sequence[int], most: int, long_enough: int = 250) -> set[int]:
    """Positions kept under a cap: an even sample by name hash, texts of a paragraph or more before short ones.

    Args:
      names: qualified names (the hash's input, so that the choice is stable).
      lengths: characters of each docstring.
      most: how many to keep.
      long_enough: about 40 words; shorter pages would mostly fail the quality filter's 50 words.
    """

    def rank(position: int) -> tuple[bool, bytes]:
        digest = hashlib.blake2b(names[position].encode("utf-8"), digest_size=8).digest()
        return lengths[position] < long_enough, digest

    return set(sorted(range(len(names)), key=rank)[:most])
