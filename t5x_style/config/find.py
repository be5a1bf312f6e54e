"""Where gin files are: as named, beside the file that includes them, or among those that come with t5x_style."""

from __future__ import annotations

import difflib
from pathlib import Path

from t5x_style.errors import UserError


def gin_folders() -> list[Path]:
    """The folders that hold the gin files of a checkout and of an installed package, those that exist."""
    package = Path(__file__).parents[1]
    return [folder for folder in (package.parent / "gin", package / "gin_files") if folder.is_dir()]


def is_library_file(path: Path) -> bool:
    """Whether the file is one of those that come with t5x_style."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in gin_folders())


def find_gin_file(name: str, beside: Path | None = None) -> Path:
    """Finds a gin file: as given, in the folder `beside`, or under a gin folder, with or without the leading `gin/`.

    Raises:
      UserError: there is none; names close to it are listed.
    """
    candidates = [Path(name)]
    if beside is not None:
        candidates.append(beside / name)
    for folder in gin_folders():
        candidates += [folder / name, folder / name.removeprefix("gin/")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = [str(path.relative_to(folder)) for folder in gin_folders() for path in sorted(folder.rglob("*.gin"))]
    near = difflib.get_close_matches(name.removeprefix("gin/"), known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"files that come with t5x_style: {', '.join(known)}"
    raise UserError(f"gin file {name!r} does not exist; {hint}")
