"""Renders pydoc pages in a watched child process: a hang or a crash costs one module, never the crawl."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

WORKER = Path(__file__).with_name("pydoc_worker.py")


def worker_environment(home: str) -> dict[str, str]:
    """A bare environment: no display, no browser, no secrets that `os.environ` would show, a fixed hash seed."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "BROWSER": "true",
        "MPLBACKEND": "Agg",
        "JAX_PLATFORMS": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


def render_modules(modules: Sequence[str], timeout: float) -> list[tuple[str, str, str]]:
    """pydoc's page of every module.

    Args:
      modules: dotted names, rendered in order in one process (a new one after a hang or a crash).
      timeout: seconds one module may take, its imports included.

    Returns:
      (module, outcome, page) in order; outcome is "ok", an exception's name, "crashed", "hung" or a size limit;
      the page is empty unless the outcome is "ok".
    """
    outcomes: dict[int, str] = {}
    with tempfile.TemporaryDirectory(prefix="documentation_") as folder:
        while len(outcomes) < len(modules):
            waiting = [(index, name) for index, name in enumerate(modules) if index not in outcomes]
            Path(folder, "items.json").write_text(json.dumps(waiting), encoding="utf-8")
            _run_worker(folder, waiting, timeout, outcomes)
        results = []
        for index, name in enumerate(modules):
            page = Path(folder, f"{index}.html").read_text(encoding="utf-8") if outcomes[index] == "ok" else ""
            results.append((name, outcomes[index], page))
    return results


def _run_worker(folder: str, waiting: list[tuple[int, str]], timeout: float, outcomes: dict[int, str]) -> None:
    """Runs one child until it is done, hangs or dies; fills in the outcome of every module it reached."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-P", "-s", str(WORKER), str(writer), folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        env=worker_environment(folder),
        pass_fds=[writer],
        start_new_session=True,
    )
    os.close(writer)
    order = [index for index, _ in waiting]
    done = 0
    ending = "crashed"
    buffered = b""
    deadline = time.monotonic() + timeout
    try:
        while done < len(order):
            ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                ending = "hung"
                break
            chunk = os.read(reader, 65536)
            if not chunk:
                break
            *lines, buffered = (buffered + chunk).split(b"\n")
            for line in lines:
                index, _, outcome = line.decode().partition(" ")
                outcomes[int(index)] = outcome
                done += 1
            deadline = time.monotonic() + timeout
        if done < len(order):
            outcomes[order[done]] = ending
    finally:
        os.close(reader)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
