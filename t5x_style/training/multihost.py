"""Several processes as one run: who writes, and how small JSON values travel between processes."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t5x_style.errors import UserError


def initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes of the run; does nothing for a run of one process.

    Args:
      coordinator: "HOST:PORT" of process 0. processes: how many there are. process: which one this is, from 0.
        On TPU pods, SLURM and Open MPI all three may be left out: pass coordinator="auto".

    Raises:
      UserError: only some of them are given, or the coordinator cannot be reached.
    """
    if coordinator is None and processes is None and process is None:
        return
    if coordinator == "auto":
        jax.distributed.initialize()
        _without_kept_programs()
        return
    if coordinator is None or processes is None or process is None:
        raise UserError("--coordinator, --num_processes and --process_id go together (or --coordinator=auto alone)")
    if not 0 <= process < processes:
        raise UserError(f"--process_id {process} must lie in [0, {processes}), the number of processes")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except RuntimeError as error:
        raise UserError(f"coordinator {coordinator} not reached: {str(error).splitlines()[0]}") from error
    _without_kept_programs()


def _without_kept_programs() -> None:
    """On CPU a program of several processes that comes from the compilation cache can wait for itself for ever.

    Seen with JAX 0.10.2: the first training step on 2 processes of 2 devices stood still in 3 of 3 runs that read it
    from the cache, in none of 15 that compiled it.
    """
    if jax.default_backend() == "cpu" and jax.process_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)


def is_writer() -> bool:
    """Is this the one process that writes files?"""
    return jax.process_index() == 0


def gather_json(value: Any) -> list[Any]:
    """The JSON value of every process, in process order, on every process.

    The bytes travel as one padded uint8 array per process.
    """
    if jax.process_count() == 1:
        return [value]
    encoded = np.frombuffer(json.dumps(value).encode("utf-8"), np.uint8)
    lengths = multihost_utils.process_allgather(np.asarray([encoded.size], np.int32))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: encoded.size] = encoded
    rows = multihost_utils.process_allgather(padded)
    rows = np.asarray(rows).reshape(jax.process_count(), -1)
    return [json.loads(bytes(row[: int(size)]).decode("utf-8")) for row, size in zip(rows, lengths.reshape(-1))]


def agree(flag: bool) -> bool:
    """True on every process as soon as one process says True (a signal reaches processes at different steps)."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray([flag]))))
