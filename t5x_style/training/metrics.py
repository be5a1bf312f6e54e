"""Where the numbers of a run go: MODEL_DIR/metrics.jsonl (one object a line), TensorBoard events, the log."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from absl import logging

from t5x_style.files import atomic_write_text

FILE = "metrics.jsonl"


def read(model_dir: str | Path) -> list[dict[str, Any]]:
    """All rows of metrics.jsonl in order; a last line cut off by a kill is left out."""
    path = Path(model_dir) / FILE
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logging.warning("%s: dropped an incomplete line (%d characters)", path, len(line))
    return rows


class Writer:
    """Writes rows of scalars by step.

    Args:
      model_dir: the run's folder.
      resume_step: rows after it are dropped from metrics.jsonl: they belong to steps that will be run again.
      tensorboard: also write event files to MODEL_DIR/tensorboard.
      active: False on all processes but one; then nothing is written.
    """

    def __init__(self, model_dir: str | Path, resume_step: int = 0, tensorboard: bool = True, active: bool = True):
        self._active = active
        self._events: Any = None
        self._file: Any = None
        if not active:
            return
        path = Path(model_dir) / FILE
        rows = [row for row in read(model_dir) if row["step"] <= resume_step]
        atomic_write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (closed in close)
        if tensorboard:
            from tensorboardX import SummaryWriter

            self._events = SummaryWriter(str(Path(model_dir) / "tensorboard"), purge_step=resume_step + 1)

    def write(self, step: int, kind: str, values: dict[str, float]) -> None:
        """One row: {"step", "kind" ("train", "eval", ...), "time" (Unix seconds), and the values}.

        Values that are not finite are written as null, which JSON has, and as NaN to TensorBoard.
        """
        if not self._active:
            return
        clean = {name: value if math.isfinite(value) else None for name, value in values.items()}
        row = {"step": step, "kind": kind, "time": round(time.time(), 3), **clean}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flushes and closes the files."""
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()
