"""MODEL_DIR/profile: a trace of some steps, written by JAX's profiler, which knows the local disk alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax

from t5x_style import files

FOLDER = "profile"


class Trace:
    """One trace; of a remote MODEL_DIR it is written to a staging folder and uploaded when it stops."""

    def __init__(self, model_dir: str | Path):
        self._target = files.join(model_dir, FOLDER)
        self._staging: Path | None = None
        self._running = False

    def start(self) -> None:
        """Begins to record."""
        self._staging = files.staging_folder(FOLDER) if files.is_remote(self._target) else None
        jax.profiler.start_trace(str(self._staging or self._target))
        self._running = True

    def stop(self) -> None:
        """Writes the trace, if one is recorded.

        Raises:
          UserError: a remote MODEL_DIR cannot be written.
        """
        if not self._running:
            return
        self._running = False
        jax.profiler.stop_trace()
        if self._staging is not None:
            files.upload(self._staging, self._target)
            shutil.rmtree(self._staging, ignore_errors=True)
