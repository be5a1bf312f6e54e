"""One process trains in a MODEL_DIR at a time; of a run of several processes the writer holds the folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from t5x_style import files
from t5x_style.errors import UserError
from t5x_style.training import multihost

FILE = ".lock"


@contextlib.contextmanager
def held(model_dir: str) -> Iterator[None]:
    """Holds a local MODEL_DIR while the block runs; the system lets it go when the process ends, however that is.

    Raises:
      UserError: another process trains there.
    """
    if files.is_remote(model_dir) or not multihost.is_writer():
        yield
        return
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path = Path(model_dir) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f"{model_dir}: another process trains there ({file.read().strip() or 'unknown'}); wait for it, stop "
                "it, or use another MODEL_DIR"
            ) from error
        except OSError:  # a file system without locks
            yield
            return
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
