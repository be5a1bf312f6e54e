"""Where the numbers of a run go: MODEL_DIR/metrics.jsonl (one object a line), TensorBoard events, the log.

An object store has no appending: there the file is written again from the start, at every checkpoint, at the end, and
after FLUSH_SECONDS in between. A kill loses the rows since then, which belong to steps that are run again.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from absl import logging

from t5x_style import files

FILE = "metrics.jsonl"
EVENTS = "tensorboard"
FLUSH_SECONDS = 60.0


def read(model_dir: str | Path) -> list[dict[str, Any]]:
    """All rows of metrics.jsonl in order; a last line cut off by a kill is left out.

    Raises:
      UserError: a remote MODEL_DIR cannot be read.
    """
    path = files.join(model_dir, FILE)
    rows = []
    for line in files.read_text(path).splitlines() if files.exists(path) else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logging.warning("%s: dropped an incomplete line (%d characters)", path, len(line))
    return rows


class Writer:
    """Writes rows of scalars by step.

    Args:
      model_dir: the run's folder or URL.
      resume_step: rows after it are dropped from metrics.jsonl: they belong to steps that will be run again.
      tensorboard: also write event files to MODEL_DIR/tensorboard.
      active: False on all processes but one; then nothing is written.

    Raises (every method):
      UserError: a remote MODEL_DIR cannot be read or written.
    """

    def __init__(self, model_dir: str | Path, resume_step: int = 0, tensorboard: bool = True, active: bool = True):
        self._active = active
        self._events: Any = None
        self._file: Any = None
        if not active:
            return
        self._path = files.join(model_dir, FILE)
        self._lines = [json.dumps(row) + "\n" for row in read(model_dir) if row["step"] <= resume_step]
        files.atomic_write_text(self._path, "".join(self._lines))
        self._unwritten, self._written_at = False, time.monotonic()
        if not files.is_remote(model_dir):
            self._lines = []
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._target = files.join(model_dir, EVENTS)
            remote = files.is_remote(model_dir)
            self._staging = files.staging_folder(EVENTS) if remote else None
            self._events = SummaryWriter(str(self._staging or self._target), purge_step=resume_step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One row: {"step", "kind" ("train", "eval", ...), "time" (Unix seconds), and the values}.

        Values that are not finite are written as null, which JSON has, and as NaN to TensorBoard.
        """
        if not self._active:
            return
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "kind": kind, "time": round(time.time(), 3), **clean}) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        else:
            self._lines.append(line)
            self._unwritten = True
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)
        if self._unwritten and time.monotonic() - self._written_at > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Brings a remote MODEL_DIR up to date, at every checkpoint; a local one always is."""
        if not self._active or not self._unwritten:
            return
        self._write_again()
        if self._events is not None:
            self._events.flush()
            self._upload_events()

    def close(self) -> None:
        """Flushes and closes the files."""
        if not self._active:
            return
        self._active = False
        if self._file is not None:
            self._file.close()
        elif self._unwritten:
            self._write_again()
        if self._events is not None:
            self._events.close()
            self._upload_events()

    def _write_again(self) -> None:
        files.atomic_write_text(self._path, "".join(self._lines))
        self._unwritten, self._written_at = False, time.monotonic()

    def _upload_events(self) -> None:
        if self._staging is not None:
            files.upload(self._staging, self._target)
