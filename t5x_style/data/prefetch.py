"""One background thread that keeps a few results ready."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

_POLL_SECONDS = 0.1  # how soon a thread blocked on a full queue notices that nobody wants its results any more


class Prefetcher:
    """Calls `produce` in a thread, `depth` results ahead; `produce` returns None at the end.

    An exception in `produce` is raised by `get`, and again by every later `get`.
    """

    def __init__(self, produce: Callable[[], Any], depth: int):
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()
        self._end: tuple[Any, BaseException | None] | None = None
        self._thread = threading.Thread(
            target=_run, args=(produce, self._queue, self._stop), name="t5x_style-data", daemon=True
        )
        self._thread.start()

    def get(self) -> Any:
        """The next result, None after the last."""
        result, error = self._end or self._queue.get()
        if error is not None or result is None:
            self._end = (result, error)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Stops the thread and waits for it; results it had ready are lost."""
        self._stop.set()
        self._thread.join()

    def __del__(self):
        self._stop.set()


def _run(produce: Callable[[], Any], results: queue.Queue, stop: threading.Event) -> None:
    """The thread's loop; it holds no reference to the Prefetcher, so that an abandoned one is collected."""
    result, error = None, None
    while not stop.is_set():
        try:
            result = produce()
        except BaseException as caught:  # noqa: BLE001 (handed over to the thread that asks)
            result, error = None, caught
        while not stop.is_set():
            try:
                results.put((result, error), timeout=_POLL_SECONDS)
                break
            except queue.Full:
                continue
        if result is None:
            return
