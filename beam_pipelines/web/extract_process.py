"""Extraction in a child process that the kernel ends when a page takes too long or too much memory.

One child serves all pages of a unit. Before each page it sets an alarm whose default action is to end the process;
that works even while the parser is busy in C. The parent sees the end of the stream, counts the page, starts a new
child and goes on with the next page.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

from beam_pipelines.web.document import Page, Unreadable, Verdict
from beam_pipelines.web.extract import Extract, Extracted, extract_page, plain_page

WINDOW = 16  # pages under way: the child never waits for the parent, and a killed child loses little
_READY = "ready"


class ExtractProcess:
    """A child process that extracts pages; a context manager.

    Example:
      with ExtractProcess(Extract()) as process:
          for page, outcome in process.map(pages): ...
    """

    def __init__(self, parameters: Extract):
        self._parameters = parameters
        self._child: subprocess.Popen | None = None

    def __enter__(self) -> ExtractProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def map(self, pages: Iterable[Page | Unreadable]) -> Iterator[tuple[Page | Unreadable, Extracted | Verdict | None]]:
        """Yields each page with what was extracted, or with a verdict: `timeout`, `crash` or `parse_error`.

        The order stays. What is unreadable passes with None; plain text is not sent to the child.
        """
        waiting: deque[tuple[Page | Unreadable, bool]] = deque()  # (item, sent to the child)
        for page in pages:
            sent = isinstance(page, Page) and page.html
            waiting.append((page, sent))
            if sent:
                self._send(page)
            while len(waiting) > WINDOW or (waiting and not waiting[0][1]):
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def _next(
        self, waiting: deque[tuple[Page | Unreadable, bool]]
    ) -> tuple[Page | Unreadable, Extracted | Verdict | None]:
        page, sent = waiting.popleft()
        if not isinstance(page, Page):
            return page, None
        if not sent:
            return page, plain_page(page)
        outcome = self._results.get()
        if outcome is None:  # the child has ended, with this page in hand
            outcome = self._verdict()
            for later, later_sent in waiting:
                if later_sent:
                    self._send(later)
        return page, outcome

    def _verdict(self) -> Verdict:
        """Why the child ended."""
        assert self._child is not None
        code = self._child.wait()
        self._stop()
        timeout = self._parameters.timeout
        return Verdict("timeout", timeout, timeout) if code == -signal.SIGALRM else Verdict("crash", code)

    def _send(self, page: Page | Unreadable) -> None:
        assert isinstance(page, Page)
        if self._child is None:
            self._start()
        # If the child has ended on an earlier page, `_next` finds out and sends this one again.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send((page.content, page.charset))

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import serve; serve({theirs.fileno()})"],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's; the child ends when the connection does
            )
        connection = self._connection = Connection(ours.detach())
        try:
            connection.send(self._parameters)
            started = connection.recv() == _READY
        except (EOFError, ConnectionResetError, BrokenPipeError):
            started = False
        if not started:
            code = self._child.wait()
            connection.close()
            self._child = None
            raise RuntimeError(f"the extracting process did not start (exit code {code})")
        results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._results = results

        def receive() -> None:  # in a thread, so that parent and child cannot both wait to be read
            try:
                while True:
                    results.put(connection.recv())
            except (EOFError, OSError):
                results.put(None)

        self._receiver = threading.Thread(target=receive, daemon=True)
        self._receiver.start()

    def _stop(self) -> None:
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        self._receiver.join()
        self._connection.close()
        self._child = None


def serve(descriptor: int) -> None:
    """The child's loop: receives (content, charset), sends Extracted or a Verdict, until the parent closes."""
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(descriptor))


def _serve(connection: Connection) -> None:
    parameters: Extract = connection.recv()
    _end_with_parent()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    extract_page(b"<html><body><p>warm</p></body></html>", "", parameters.method)  # imports stay off the pages' clocks
    _limit_memory(parameters.memory_mb)
    connection.send(_READY)
    while True:
        content, charset = connection.recv()
        signal.setitimer(signal.ITIMER_REAL, parameters.timeout)
        try:
            outcome: Extracted | Verdict = extract_page(content, charset, parameters.method)
        except MemoryError:
            outcome = Verdict("memory", None, parameters.memory_mb)
        except Exception as error:  # noqa: BLE001 - whatever a parser raises on a page rejects that page, by name
            outcome = Verdict(f"parse_error_{type(error).__name__}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(outcome)


def _end_with_parent() -> None:
    """Where the kernel can (Linux), a child deep in a page does not outlive a killed worker until its alarm."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _limit_memory(megabytes: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
