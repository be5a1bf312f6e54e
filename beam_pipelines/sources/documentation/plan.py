"""Divides the crawl into units of work, each of which becomes one WARC file."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from beam_pipelines.sources.documentation.packages import STANDARD_LIBRARY, Distribution, Source, public_modules

# Enough work to repay a process start, little enough to share out evenly between cores.
FILES_PER_UNIT = 150
MODULES_PER_UNIT = 80
MODULE_SHARE = 10  # of a sample's pages, one in ten is a module page, as in the whole crawl

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """What decides the crawl's content. The caps keep single packages (scipy, jax) from dominating."""

    packages: tuple[str, ...] = ()  # top-level import names; empty: all of them
    package_pages: int = 1200  # object pages of one package, at most
    package_modules: int = 50  # module pages of one package, at most; shallow ones first
    max_pages: int = 0  # pages in all, at most: a quick sample for trials; 0: no limit
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
    quota: int = 0  # object pages this unit may have under `max_pages`; 0: no limit

    @property
    def file_name(self) -> str:
        return f"part-{self.index:05d}.warc.gz"


def _groups(items: Sequence[tuple[str, T]], size: int) -> Iterable[list[tuple[str, T]]]:
    """Consecutive (package, item) pairs, at least `size` a group, no package cut in two."""
    group: list[tuple[str, T]] = []
    for position, item in enumerate(items):
        if len(group) >= size and items[position - 1][0] != item[0]:
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()


def _sampled(items: list[tuple[str, T]], names: Sequence[str], most: int) -> list[tuple[str, T]]:
    """An even sample of at most `most` items by the hash of their names, in the order given."""
    keep = set(sorted(range(len(items)), key=lambda position: _hash(names[position]))[:most])
    return [item for position, item in enumerate(items) if position in keep]


def _wanted_modules(
    distributions: Sequence[Distribution], settings: Settings
) -> tuple[list[tuple[str, str]], Counter[str]]:
    """(package, module) of the pydoc pages in order, and how many of each package the cap left out."""
    modules: list[tuple[str, str]] = []
    dropped: Counter[str] = Counter()
    for distribution in distributions:
        taken: Counter[str] = Counter()
        for module in sorted(public_modules(distribution), key=lambda name: name.split(".")[0]):
            package = module.split(".")[0]
            if settings.packages and package not in settings.packages:
                continue
            taken[package] += 1
            if taken[package] > settings.package_modules:
                dropped[package] += 1
            else:
                modules.append((package, module))
    return modules, dropped


def plan(distributions: Sequence[Distribution], settings: Settings) -> list[Unit]:
    """Units in crawl order: object pages first, because deduplication keeps a text's first copy."""
    sources = [
        (source.package, source)
        for distribution in distributions
        for source in distribution.sources
        if not settings.packages or source.package in settings.packages
    ]
    # A sample imports nothing outside the standard library: the first import of jax or scipy costs seconds.
    rendered = [each for each in distributions if not settings.max_pages or each.name == STANDARD_LIBRARY]
    modules, dropped = _wanted_modules(rendered, settings)
    version_of = {package: each.version for each in reversed(distributions) for package in each.packages}
    if settings.max_pages:
        sources = _sampled(sources, [source.module for _, source in sources], max(1, settings.max_pages // 2))
        modules = _sampled(modules, [module for _, module in modules], settings.max_pages // MODULE_SHARE)
    object_pages = settings.max_pages - len(modules)
    units: list[Unit] = []
    for group in _groups(sources, FILES_PER_UNIT):
        versions = tuple((package, version_of[package]) for package in sorted({package for package, _ in group}))
        quota = object_pages * len(group) // len(sources) if settings.max_pages else 0
        units.append(Unit(len(units), tuple(item for _, item in group), versions=versions, quota=quota))
    for part in _groups(modules, MODULES_PER_UNIT):
        names = sorted({package for package, _ in part})
        left_out = tuple((package, dropped[package]) for package in names if dropped[package])
        units.append(Unit(len(units), modules=tuple(item for _, item in part), dropped=left_out))
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
        return lengths[position] < long_enough, _hash(names[position])

    return set(sorted(range(len(names)), key=rank)[:most])
