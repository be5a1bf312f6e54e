"""Which packages, source files and modules the crawl documents: the standard library and the training core."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from t5x_style.errors import UserError

PROJECT = "t5x_style"
LOCK = Path(__file__).resolve().parents[3] / "requirements-core.lock"
STANDARD_LIBRARY = "standard library"

# Not documentation, or harmful to import: tests, demonstrations, windows, a browser being opened.
EXCLUDED_STANDARD = {"antigravity", "this", "idlelib", "test", "turtledemo", "tkinter", "turtle", "lib2to3"}
# Bindings written by a generator: a thousand pages that say the same.
GENERATED = ("jaxlib.mlir.",)
TEST_PARTS = {"test", "tests", "_tests", "conftest", "_vendor", "vendored"}


@dataclass(frozen=True)
class Source:
    """One Python source file of a documented package."""

    package: str  # top-level import name
    module: str  # dotted name
    path: str


@dataclass(frozen=True)
class Distribution:
    """An installed distribution and the public source files it brought."""

    name: str
    version: str
    sources: tuple[Source, ...]

    @property
    def packages(self) -> set[str]:
        """Top-level import names of its sources."""
        return {source.package for source in self.sources}


def normalised(name: str) -> str:
    """The name under which package indexes compare distributions (PEP 503).

    >>> normalised("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def core_requirements() -> list[str]:
    """Requirement strings of the project without extras; from the lock file in a checkout that is not installed.

    Raises:
      UserError: the project is neither installed nor a checkout with its lock file.
    """
    try:
        return list(importlib.metadata.requires(PROJECT) or [])
    except importlib.metadata.PackageNotFoundError:
        pass
    if not LOCK.exists():
        raise UserError(f"{PROJECT} is not installed and {LOCK} is missing; run `pip install -e .` in the checkout")
    pinned = re.findall(
        r"^([A-Za-z0-9._-]+==[^\s\\]+(?:\s*;[^\\\n]*)?)", LOCK.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [requirement.strip() for requirement in pinned]


def core_closure() -> tuple[list[importlib.metadata.Distribution], list[str]]:
    """Installed distributions the core needs, directly or not, by name; and the names that are not installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    missing: set[str] = set()
    waiting = core_requirements()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = normalised(requirement.name)
        if name in found or name in missing or name == normalised(PROJECT):
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found[name] = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.add(name)
            continue
        waiting.extend(found[name].requires or [])
    return [found[name] for name in sorted(found)], sorted(missing)


def module_name(parts: tuple[str, ...]) -> str | None:
    """Dotted module of a source path's parts; None for tests, generated code, files that cannot be imported.

    >>> module_name(("numpy", "lib", "__init__.py")), module_name(("numpy", "tests", "test_a.py"))
    ('numpy.lib', None)
    """
    names = [*parts[:-1], parts[-1].removesuffix(".py")]
    if len(names) > 1 and names[-1] == "__init__":
        names.pop()
    for name in names:
        if not name.isidentifier() or name in TEST_PARTS or name == "__main__":
            return None
        if name.startswith("test_") or name.endswith(("_test", "_tests")):
            return None
    name = ".".join(names)
    return None if name.startswith(GENERATED) else name


def distribution_sources(distribution: importlib.metadata.Distribution) -> Distribution:
    """The distribution's documented source files, by module name."""
    sources = []
    for file in distribution.files or []:
        if file.suffix != ".py" or ".." in file.parts:
            continue
        module = module_name(file.parts)
        path = Path(str(distribution.locate_file(file)))
        if module and path.exists():
            sources.append(Source(module.split(".")[0], module, str(path)))
    sources.sort(key=lambda source: source.module)
    return Distribution(distribution.metadata["Name"], distribution.version, tuple(sources))


def standard_library() -> Distribution:
    """The public source files of the running Python's standard library, by module name."""
    root = Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        top = parts[0].removesuffix(".py")
        if top not in sys.stdlib_module_names or top.startswith("_") or top in EXCLUDED_STANDARD:
            continue
        module = module_name(parts)
        if module:
            sources.append(Source(top, module, str(path)))
    sources.sort(key=lambda source: source.module)
    return Distribution(STANDARD_LIBRARY, ".".join(map(str, sys.version_info[:3])), tuple(sources))


def is_public(module: str) -> bool:
    """No part of the dotted name starts with an underscore."""
    return not any(part.startswith("_") for part in module.split("."))


def public_modules(distribution: Distribution) -> list[str]:
    """Importable public module names, shallow ones first; the standard library's compiled modules included."""
    names = {source.module for source in distribution.sources if is_public(source.module)}
    if distribution.name == STANDARD_LIBRARY:
        names |= {name for name in sys.stdlib_module_names if is_public(name) and name not in EXCLUDED_STANDARD}
    return sorted(names, key=lambda name: (name.count("."), name))
