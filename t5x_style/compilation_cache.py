"""Compiled programs kept between processes, in the user's cache folder: what tests and the quickstart run with.

JAX keeps a program under a hash of what it was compiled from, so that a changed program is compiled anew and nothing
has to be invalidated. The variable T5X_STYLE_COMPILATION_CACHE names another folder, or is `off`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from pathlib import Path

VARIABLE = "T5X_STYLE_COMPILATION_CACHE"
LIMIT_BYTES = 4 << 30


def folder() -> Path | None:
    """Where programs of this machine are kept, by default ~/.cache/t5x_style/compiled-<machine>; None: nowhere.

    XDG_CACHE_HOME is respected. Programs for the CPU hold the instructions of the CPU that compiled them, so machines
    that share a home have a folder each.
    """
    named = os.environ.get(VARIABLE, "")
    if named.lower() in ("off", "0", "no", "false"):
        return None
    if named:
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return home / "t5x_style" / f"compiled-{_machine()}"


def environment() -> dict[str, str]:
    """JAX's variables that make it keep every program, however fast it compiled; {} where the cache is off.

    The folder is made, and brought below LIMIT_BYTES, oldest programs first.
    """
    place = folder()
    if place is None:
        return {}
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}  # a home that cannot be written: programs are compiled anew, as without a cache
    shrink(place, LIMIT_BYTES)
    return {
        "JAX_COMPILATION_CACHE_DIR": str(place),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def shrink(place: Path, limit: int) -> int:
    """Deletes the oldest files of a folder until the rest is below four fifths of `limit`, if it is above `limit`.

    Returns:
      how many were deleted.
    """
    found = []
    for entry in os.scandir(place):
        with contextlib.suppress(FileNotFoundError):  # another process shrinks it too
            if entry.is_file():
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
    size = sum(row[1] for row in found)
    if size <= limit:
        return 0
    deleted = 0
    for _, bytes_, path in sorted(found):
        if size <= limit * 4 // 5:
            break
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        size -= bytes_
        deleted += 1
    return deleted


def _machine() -> str:
    """Eight characters that differ between kinds of CPU."""
    kind = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        kind += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    return hashlib.sha256(kind.encode()).hexdigest()[:8]
