"""A folder that appears whole or not at all: made under a temporary name beside its place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from t5x_style import files
from t5x_style.errors import UserError


@contextlib.contextmanager
def output_folder(path: str | Path, needed: int = 0) -> Iterator[Path]:
    """Gives a temporary folder to fill; it becomes `path` when the block ends without an exception.

    What an exception or Ctrl-C leaves is removed. A killed process leaves a folder `.NAME.incomplete`, which the next
    run with the same `path` removes; a lock tells it from that of a running process.

    Args:
      path: must not exist, or be an empty folder. needed: bytes that the disk must have free.

    Raises:
      UserError: `path` is not empty, cannot be written, is being written, or the disk is or gets full.
    """
    target = files.require_local(path, "the folder to write").absolute()
    _check_new(target, path)
    working = target.with_name(f".{target.name}.incomplete")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(working)
    except OSError as error:
        raise UserError(f"{str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    try:
        _check_new(target, path)  # again: another process may have finished it before the lock was ours
        free = shutil.disk_usage(working).free
        if free < needed:
            raise UserError(
                f"{str(path)!r}: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free; make room or choose "
                "another disk"
            )
        yield working
        os.replace(working, target)
    except Exception as error:
        shutil.rmtree(working, ignore_errors=True)
        if _disk_full(error):
            raise UserError(f"{str(path)!r}: the disk is full; make room, then run the command again") from error
        raise
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _check_new(target: Path, path: str | Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{str(path)!r} exists and is not empty; give a new folder, or remove it first")


def _locked(working: Path) -> int:
    """Makes the folder anew, and returns its lock."""
    working.mkdir(exist_ok=True)
    lock = os.open(working, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise UserError(f"{str(working)!r} is being written by another process; wait for it") from None
    for held in working.iterdir():  # of a process that was killed
        if held.is_dir() and not held.is_symlink():
            shutil.rmtree(held)
        else:
            held.unlink()
    return lock


def _disk_full(error: BaseException | None) -> bool:
    """Whether an exception, or what it came from, says so; array libraries only say it in their text."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
