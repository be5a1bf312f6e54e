"""Extraction in a child process that the kernel ends when a page takes too long or too much memory.

Before each page the child sets an alarm whose default action is to end the process; that works even while the parser
is busy in C. The parent sees the end of the stream, counts the page, starts a new child and goes on with the next
page. Where `auto` goes on to the slow extractor the child sends the fast text ahead, so that the end of the child then
costs the page nothing but the second reading.

One child serves all pages of a unit; a child that is idle at the end of a unit waits a minute for the next one with
the same parameters, because starting it takes as long as a hundred pages.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib
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
from typing import Any, NamedTuple

from beam_pipelines.web.document import Page, Unreadable, Verdict
from beam_pipelines.web.extraction.extract import Extract, Extracted, extract_page, plain_page, without_slow

WINDOW = 16  # pages under way: the child never waits for the parent, and a killed child loses little
IDLE_SECONDS = 60.0
_READY = "ready"


class Ahead(NamedTuple):
    """The fast text of a page that the slow extractor is about to read."""

    extracted: Extracted


class ExtractProcess:
    """A child process that extracts pages; a context manager.

    Example:
      with ExtractProcess(Extract()) as process:
          for page, outcome in process.map(pages): ...
    """

    def __init__(self, parameters: Extract):
        self._parameters = parameters
        self._child: _Child | None = None

    def __enter__(self) -> ExtractProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._child is not None:
            _IDLE.put(self._child)
            self._child = None

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
        child = self._child
        assert child is not None
        outcome = child.results.get()
        ahead = None
        if isinstance(outcome, Ahead):
            ahead, outcome = outcome.extracted, child.results.get()
        child.under_way -= 1
        if outcome is None:  # the child has ended, with this page in hand
            outcome = self._ended(child, ahead)
            for later, later_sent in waiting:
                if later_sent:
                    self._send(later)
        return page, outcome

    def _ended(self, child: _Child, ahead: Extracted | None) -> Extracted | Verdict:
        """Why the child ended; of little account if it was in the slow extractor."""
        code = child.process.wait()
        child.stop()
        self._child = None
        late = code == -signal.SIGALRM
        if ahead is not None:
            return without_slow(ahead, "timeout" if late else "crash")
        timeout = self._parameters.timeout
        return Verdict("timeout", timeout, timeout) if late else Verdict("crash", code)

    def _send(self, page: Page | Unreadable) -> None:
        assert isinstance(page, Page)
        if self._child is None:
            self._child = _IDLE.take(self._parameters) or _Child(self._parameters)
        self._child.send(page)


class _Child:
    """A started child and what connects it.

    Attributes:
      results: what it sent, in order; None at its end.
      under_way: pages that it has not answered.
    """

    def __init__(self, parameters: Extract):
        self.parameters = parameters
        self.under_way = 0
        self.results: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.parent = os.getpid()
        self.timer: threading.Timer | None = None  # while it is idle
        ours, theirs = socket.socketpair()
        watched, self._alive = os.pipe()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = f"from {__name__} import serve; serve({theirs.fileno()}, {watched})"
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command],
                pass_fds=[theirs.fileno(), watched],
                env=environment,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's; the child ends when the parent does
            )
        finally:
            theirs.close()
            os.close(watched)
        self._connection = Connection(ours.detach())
        try:
            self._connection.send(parameters)
            started = self._connection.recv() == _READY
        except (EOFError, ConnectionResetError, BrokenPipeError):
            started = False
        self._receiver = threading.Thread(target=self._receive if started else lambda: None, daemon=True)
        self._receiver.start()
        if not started:
            code = self.process.wait()
            self.stop()
            raise RuntimeError(f"the extracting process did not start (exit code {code})")

    def send(self, page: Page) -> None:
        """If the child has ended on an earlier page, `_next` finds out and this one is sent again."""
        self.under_way += 1
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send((page.content, page.charset))

    def _receive(self) -> None:  # in a thread, so that parent and child cannot both wait to be read
        try:
            while True:
                self.results.put(self._connection.recv())
        except (EOFError, OSError):
            self.results.put(None)

    def stop(self) -> None:
        """Ends it, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self._receiver.join()
        self._connection.close()
        os.close(self._alive)


class _Idle:
    """Children without work, kept for `IDLE_SECONDS`; used by all threads of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._children: list[_Child] = []

    def put(self, child: _Child) -> None:
        """Keeps a child that has answered everything; ends another."""
        if child.under_way or not child.results.empty():
            child.stop()
            return
        with self._lock:
            self._children.append(child)
        timer = threading.Timer(IDLE_SECONDS, self._end, [child])
        timer.daemon = True
        timer.start()
        child.timer = timer

    def take(self, parameters: Extract) -> _Child | None:
        """A child with these parameters that this very process started, None if there is none."""
        with self._lock:
            for child in self._children:
                if child.parameters == parameters and child.parent == os.getpid() and child.process.poll() is None:
                    self._children.remove(child)
                    break
            else:
                return None
        if child.timer is not None:
            child.timer.cancel()
        return child

    def _end(self, child: _Child) -> None:
        with self._lock:
            if child not in self._children:  # it has work again
                return
            self._children.remove(child)
        child.stop()

    def end_all(self) -> None:
        """Ends all that this process started."""
        with self._lock:
            children, self._children = self._children, []
        for child in children:
            if child.parent == os.getpid():
                child.stop()


_IDLE = _Idle()
atexit.register(_IDLE.end_all)


def serve(descriptor: int, watched: int) -> None:
    """The child's loop: receives (content, charset), sends Extracted or a Verdict, until the parent closes."""
    _end_with_parent(watched)
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(Connection(descriptor))


def _serve(connection: Connection) -> None:
    parameters: Extract = connection.recv()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Imports stay off the pages' clocks; what `auto` may never need is imported when it does.
    extract_page(b"<html><body><p>warm</p></body></html>", "", parameters.method, doubt=0)
    _limit_memory(parameters.memory_mb)
    connection.send(_READY)

    def before_slow(fast: Extracted) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        importlib.import_module("trafilatura")
        connection.send(Ahead(fast))
        signal.setitimer(signal.ITIMER_REAL, parameters.slow_timeout)

    while True:
        content, charset = connection.recv()
        signal.setitimer(signal.ITIMER_REAL, parameters.timeout)
        try:
            outcome: Extracted | Verdict = extract_page(
                content, charset, parameters.method, parameters.doubt, before_slow
            )
        except MemoryError:
            outcome = Verdict("memory", None, parameters.memory_mb)
        except Exception as error:  # noqa: BLE001 - whatever a parser raises on a page rejects that page, by name
            outcome = Verdict(f"parse_error_{type(error).__name__}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send(outcome)


def _end_with_parent(watched: int) -> None:
    """The kernel ends the child when its parent is gone, even deep in a page.

    Nothing is ever written to the pipe `watched`, so the only event in it is that its last writer ended; SIGIO's
    default action is to end the process. (PR_SET_PDEATHSIG would end it with the thread that started it.)
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(watched, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(watched, fcntl.F_SETFL, fcntl.fcntl(watched, fcntl.F_GETFL) | os.O_ASYNC)


def _limit_memory(megabytes: int) -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
