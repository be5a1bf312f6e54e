"""Many small reads from remote files at once, in order, with a bounded number under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

THREADS = 32  # 90,000 reads of 50 ms take 2.5 minutes instead of 75


def read_ahead(function: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """`map(function, items)` with up to `threads` calls at once; results come in order, two per thread wait at most.

    Raises:
      Exception: whatever a call raises, when its turn comes.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[B]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
