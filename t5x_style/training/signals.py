"""Stopping cleanly: the first signal is a flag that the loop reads between steps, a second one acts at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from absl import logging


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal after it had saved its state."""


class StopSignals:
    """Turns the first SIGINT or SIGTERM into a flag that the loop reads between steps; a second one acts at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: the caller handles signals
                logging.info("signals are not handled here: the loop does not run in the main thread")
                break
        return self

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            self.__exit__()
            raise KeyboardInterrupt
        self.received = number
        logging.warning("signal %d: stopping after this step with a checkpoint (again: stop at once)", number)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
