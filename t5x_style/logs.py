"""What an entry point shows of the log: this project's messages, and everyone's warnings."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from absl import logging as absl_logging

_ROOT = Path(__file__).parent.parent
_OURS = tuple(str(_ROOT / name) for name in ("t5x_style", "tasks", "beam_pipelines"))


# Orbax warns of the first at every save into one file by one process, which is how an import writes, and of the second
# whenever one item of a checkpoint is opened.
_EXPECTED = ("Skipping merge of OCDBT checkpoints", "Metadata file does not exist")


class _Ours(logging.Filter):
    """Lets through warnings, and information of this project's own modules (Orbax alone logs 30 lines a save)."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith(_EXPECTED):
            return False
        return record.levelno >= logging.WARNING or record.pathname.startswith(_OURS)


def configure() -> None:
    """Sets the level to INFO, a short format with the time, and the filter; entry points call it once."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # else absl warns that flags, which this project does not use, are unread
    absl_logging.set_verbosity(absl_logging.INFO)
    root = logging.getLogger()
    for known in [known for known in root.handlers if type(known) is logging.StreamHandler]:
        root.removeHandler(known)  # what an early logging call set up: every line would come twice
    absl_logging.use_absl_handler()
    handler = absl_logging.get_absl_handler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    if not any(isinstance(known, _Ours) for known in handler.filters):
        handler.addFilter(_Ours())


@contextlib.contextmanager
def without_native_lines(prefix: str) -> Iterator[None]:
    """Drops lines that start with `prefix` from what native code writes to standard error in the block.

    For libraries that have no switch: TensorFlow Text's SentencePiece writes "normalizer.cc(51) LOG(INFO) ..." for
    every data set it is used in. Python's own sys.stderr goes straight to where it went before.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    previous, sys.stderr = sys.stderr, os.fdopen(os.dup(saved), "w", buffering=1, errors="backslashreplace")

    def forward() -> None:
        with os.fdopen(reading, "rb") as lines:
            for line in lines:
                if not line.startswith(prefix.encode()):
                    os.write(saved, line)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = previous
        os.dup2(saved, 2)  # closes the pipe's last writing end, so the thread ends
        thread.join(timeout=5)
        os.close(saved)
