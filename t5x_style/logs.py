"""What an entry point shows of the log: this project's messages, and everyone's warnings."""

from __future__ import annotations

import logging
from pathlib import Path

from absl import flags
from absl import logging as absl_logging

_ROOT = Path(__file__).parent.parent
_OURS = tuple(str(_ROOT / name) for name in ("t5x_style", "tasks", "beam_pipelines"))


class _Ours(logging.Filter):
    """Lets through warnings, and information of this project's own modules (Orbax alone logs 30 lines a save)."""

    def filter(self, record: logging.LogRecord) -> bool:
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
