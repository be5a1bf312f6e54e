"""The worker processes of the local runner: one pool that lives as long as the command."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache

from beam_pipelines.jobs.unit import Unit
from t5x_style.errors import UserError

_POOL: ProcessPoolExecutor | None = None  # the driver's worker processes while a local runner is open


def is_open() -> bool:
    """Whether this process is a driver with worker processes."""
    return _POOL is not None


def call_batch(function: Callable[[Unit], None], batch: Sequence[Unit]) -> list[int]:
    """Calls `function` for each unit of a batch, in the driver's pool where one is open; returns [their number]."""
    if _POOL is None or len(batch) == 1:
        for unit in batch:
            function(unit)
    else:
        import cloudpickle  # Beam's own pickler: takes functions that a Beam graph takes

        pickled = cloudpickle.dumps(function)
        futures = [_POOL.submit(_call_pickled, pickled, unit) for unit in batch]
        done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
        for future in waiting:
            future.cancel()
        for future in done:
            try:
                future.result()
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process was killed, most often because memory ran out; "
                    "run the same command again to continue, with fewer --workers"
                ) from error
    return [len(batch)]


def _call_pickled(function: bytes, unit: Unit) -> None:
    _unpickled(function)(unit)


@lru_cache(maxsize=1)
def _unpickled(function: bytes) -> Callable[[Unit], None]:
    import pickle

    return pickle.loads(function)


@contextlib.contextmanager
def open_pool(workers: int) -> Iterator[None]:
    """Worker processes for the length of the block; on an exception they are ended at once."""
    import multiprocessing

    global _POOL
    assert _POOL is None, "one local runner at a time"
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can deadlock
    pool = _POOL = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        _POOL = None
        pool.shutdown(cancel_futures=True)


def _start_worker(driver: int) -> None:
    """In a pool worker: Ctrl-C is the driver's to handle, and a worker must not outlive a killed driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == driver:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
