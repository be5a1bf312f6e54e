"""Progress of long steps: a rich bar on a terminal, a log line every 30 seconds elsewhere, quiet under CI=true."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Any, TypeVar

from absl import logging

T = TypeVar("T")
LOG_EVERY_SECONDS = 30.0


class Progress:
    """One long step.

    Example:
      with Progress("tokenise", total=12, unit="shards") as progress:
          for shard in shards:
              work(shard)
              progress.advance(1, note=f"{rate:.0f} docs/s")
    """

    def __init__(self, description: str, total: float | None = None, unit: str = ""):
        self._description, self._total, self._unit = description, total, unit
        self._done = 0.0
        self._note = ""
        self._bar: Any = None
        self._task: Any = None
        self._quiet = os.environ.get("CI", "").lower() == "true"

    def __enter__(self) -> Progress:
        self._start = self._logged = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            from rich import progress as rich_progress
            from rich.console import Console

            self._bar = rich_progress.Progress(
                rich_progress.TextColumn("{task.description}"),
                rich_progress.BarColumn(),
                rich_progress.MofNCompleteColumn(),
                rich_progress.TextColumn(self._unit),
                rich_progress.TimeElapsedColumn(),
                rich_progress.TimeRemainingColumn(),
                rich_progress.TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._description, total=self._total, note="")
        return self

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Counts `amount` more units done; `note` replaces the text behind the bar."""
        self.update(self._done + amount, note)

    def update(self, done: float, note: str | None = None) -> None:
        """Sets the units done; `note` replaces the text behind the bar."""
        self._done = done
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=self._note)
        elif not self._quiet and time.monotonic() - self._logged > LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            of = "" if self._total is None else f" of {self._total:g}"
            logging.info("%s: %g%s %s %s", self._description, done, of, self._unit, self._note)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif not self._quiet and kind is None:
            seconds = time.monotonic() - self._start
            logging.info("%s: %g %s in %.1f s %s", self._description, self._done, self._unit, seconds, self._note)


def track(iterable: Iterable[T], description: str, total: float | None = None, unit: str = "") -> Iterator[T]:
    """Yields the items of `iterable` under a `Progress`; `total` defaults to its length where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(description, total, unit) as progress:
        for item in iterable:
            yield item
            progress.advance(1)
