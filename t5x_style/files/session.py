"""This process's own folder on the local disk: what is on its way to or from a remote place lies here.

`<cache>/sessions/<name>/` is locked for as long as the process lives, and removed at its end; what a killed process
left is removed by the next one. `<cache>` is T5X_STYLE_CACHE, or ~/.cache/t5x_style.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path

from t5x_style.errors import UserError

VARIABLE = "T5X_STYLE_CACHE"
_LOCK = ".lock"
_ONE_THREAD = threading.Lock()
_OPEN: dict[tuple[int, Path], Path] = {}  # (process, cache) -> its folder


def cache_folder() -> Path:
    """The local folder for copies of remote files; XDG_CACHE_HOME is respected."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return home / "t5x_style"


def session_folder() -> Path:
    """The folder of this process, made when first asked for.

    Raises:
      UserError: the cache folder cannot be written.
    """
    with _ONE_THREAD:
        return _session_folder(cache_folder() / "sessions")


def _session_folder(root: Path) -> Path:
    key = (os.getpid(), root)
    if key not in _OPEN:
        try:
            root.mkdir(parents=True, exist_ok=True)
            with open(root / _LOCK, "w", encoding="utf-8") as gate:  # no other process takes a new folder for one left
                fcntl.flock(gate, fcntl.LOCK_EX)
                _remove_left(root)
                folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
                _locked(folder / _LOCK)  # kept open, and so locked, until the process ends
        except OSError as error:
            raise UserError(
                f"cache folder {str(cache_folder())!r} cannot be written ({error.strerror}); set {VARIABLE} to another"
            ) from error
        _OPEN[key] = folder
        atexit.register(_remove_own, os.getpid(), folder)
    return _OPEN[key]


def staging_folder(purpose: str) -> Path:
    """A new empty folder of this process, for example for the checkpoint that is being uploaded."""
    return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=session_folder()))


def _locked(path: Path) -> int | None:
    """Descriptor of a file locked by this process; None where another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left(root: Path) -> None:
    """Removes the folders of processes that are gone."""
    for folder in filter(Path.is_dir, root.iterdir()):
        try:
            descriptor = _locked(folder / _LOCK)
        except FileNotFoundError:  # its own process removes it at this moment
            continue
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _remove_own(process: int, folder: Path) -> None:
    if os.getpid() == process:  # a forked child has inherited the handler
        shutil.rmtree(folder, ignore_errors=True)
