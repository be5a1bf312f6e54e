"""MkDocs hook: pages that lie elsewhere, and the API reference with a page for each module that is in the tree.

Nothing is imported and no list of modules is kept: a file that is moved is found where it lies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGES = ("t5x_style", "tasks", "beam_pipelines")
# Files beside docs/ that are pages of the site.
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}

Nav = dict[str, Any]


def on_config(config: Any) -> Any:
    """Fills in the menu of the API reference."""
    for entry in config.nav:
        if "API" in entry:
            entry["API"] = [branch(ROOT / package) for package in PACKAGES]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are not files in docs/."""
    for source, page in BESIDE.items():
        files.append(File.generated(config, page, content=from_docs((ROOT / source).read_text(encoding="utf-8"))))
    for package in PACKAGES:
        for path in modules(ROOT / package):
            files.append(File.generated(config, page_of(path), content=f"::: {name_of(path)}\n"))
    return files


def from_docs(text: str) -> str:
    """A page of the checkout's root as if it lay in docs/: `](docs/training.md)` becomes `](training.md)`."""
    for source, page in BESIDE.items():
        text = text.replace(f"]({source})", f"]({page})")
    return text.replace("](docs/", "](")


def modules(package: Path) -> list[Path]:
    """The Python files below a package, without private ones."""
    paths = sorted(package.rglob("*.py"))
    return [path for path in paths if not path.name.startswith("_") or path.name in ("__init__.py", "__main__.py")]


def name_of(path: Path) -> str:
    """`t5x_style/data/__init__.py` is t5x_style.data."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def page_of(path: Path) -> str:
    """`t5x_style/data/batches.py` is api/t5x_style/data/batches.md, a package's own page is its folder's index."""
    relative = path.relative_to(ROOT).with_suffix(".md")
    return (Path("api") / (relative.with_name("index.md") if path.stem == "__init__" else relative)).as_posix()


def branch(folder: Path) -> Nav:
    """The menu below a package: its own page, its modules, its packages."""
    own = [path for path in modules(folder) if path.parent == folder]
    first: list[Any] = [page_of(path) for path in own if path.stem == "__init__"]
    leaves: list[Any] = [{path.stem: page_of(path)} for path in own if path.stem != "__init__"]
    below = sorted(path.parent for path in folder.glob("*/__init__.py"))
    return {folder.name: first + leaves + [branch(path) for path in below]}
