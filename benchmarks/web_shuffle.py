"""Memory and time a document of a deduplication's shuffle, on the runners that work on one machine.

    python benchmarks/web_shuffle.py [--scale 1.0] [--schemes exact 14x8 450x20] [--runners local local2 dask2 beam]

Synthetic key files of two sizes go through the shuffle, each in a process of its own; the table shows the peak of the
whole process tree's memory (proportional set size, sampled) and how much more of it a document more takes. `local` is
the shuffle on disk, `beam` the in-process runner of Beam that it takes the place of, the figure beside the name the
number of workers.
Ends with a line `ratio: ...` per scheme: the peak of Beam's in-process runner over that of the local runner.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

UNITS = 16
SCHEMES = {"exact": (1, 2, 4), "14x8": (14, 1, 1), "450x20": (450, 1, 1)}  # bands, words a key, hash ranges
DOCUMENTS = {"exact": (400_000, 1_600_000), "14x8": (100_000, 400_000), "450x20": (5_000, 20_000)}
RUNNERS = {
    "local": ("local", 1),
    "local2": ("local", 2),
    "dask2": ("dask", 2),
    "beam": ("apache_beam.runners.portability.fn_api_runner.FnApiRunner", 1),
}


def write_key_files(folder: Path, scheme: str, documents: int) -> None:
    """UNITS files of random keys; one document in 50 repeats another."""
    from beam_pipelines.web.dedup.key_edges import write_keys

    bands, width, _ = SCHEMES[scheme]
    generator = np.random.default_rng(0)
    each = documents // UNITS
    for index in range(UNITS):
        keys = generator.integers(0, 2**64, (each, bands, width), np.uint64)
        keys[: each // 50] = keys[each // 50 : 2 * (each // 50)]
        with open(folder / f"u{index:02d}.keys", "wb") as file:
            write_keys(file, np.arange(each), keys)


def tree_memory() -> int:
    """Bytes of this process and its descendants, shared pages counted once."""
    import psutil

    total = 0
    processes = [psutil.Process()]
    for process in [*processes, *processes[0].children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended between the two calls
    return total


def measure(folder: Path, scheme: str, runner_name: str) -> dict[str, float]:
    """Runs the shuffle over the key files in `folder`: seconds and peak bytes above those before it."""
    from beam_pipelines.jobs.run_job import ShuffleJob, run_job
    from beam_pipelines.jobs.runners import Runner
    from beam_pipelines.jobs.unit import Unit
    from beam_pipelines.web.dedup.key_edges import EmitKeys, WriteEdges

    bands, width, ranges = SCHEMES[scheme]
    kind, workers = RUNNERS[runner_name]
    output = str(folder / "job")
    sources = [Unit(f"u{index:02d}", "", {"index": index}) for index in range(UNITS)]
    parts = [Unit(f"{part:05d}", "") for part in range(bands * ranges)]
    emit = EmitKeys(str(folder), bands, width, ranges)
    job = ShuffleJob("shuffle", output, parts, {}, WriteEdges(output, width, UNITS), sources=sources, emit=emit)
    with Runner(kind, workers) as runner:
        peak, ended = tree_memory(), threading.Event()
        before = peak

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.02):
                peak = max(peak, tree_memory())

        thread = threading.Thread(target=watch)
        thread.start()
        start = time.perf_counter()
        run_job(runner, job)
        seconds = time.perf_counter() - start
        ended.set()
        thread.join()
    return {"seconds": seconds, "bytes": peak - before}


def in_process(scheme: str, runner: str, documents: int) -> dict[str, float]:
    """`measure` in a fresh process, over fresh files."""
    with tempfile.TemporaryDirectory() as folder:
        write_key_files(Path(folder), scheme, documents)
        command = [sys.executable, __file__, "--one", folder, scheme, runner]
        environment = {**os.environ, "CI": "true", "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            raise RuntimeError(f"{scheme} on {runner}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> None:
    """Prints a row per scheme and runner, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="times the documents")
    parser.add_argument("--schemes", nargs="+", default=list(SCHEMES), choices=list(SCHEMES))
    parser.add_argument("--runners", nargs="+", default=list(RUNNERS), choices=list(RUNNERS))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.one:
        folder, scheme, runner = arguments.one
        print(json.dumps(measure(Path(folder), scheme, runner)))
        return
    print(f"{'scheme':8} {'runner':8} {'documents':>11} {'seconds':>9} {'peak MB':>9} {'bytes/document more':>20}")
    for scheme in arguments.schemes:
        peaks = {}
        for runner in arguments.runners:
            small, large = (int(count * arguments.scale) for count in DOCUMENTS[scheme])
            first, second = (in_process(scheme, runner, count) for count in (small, large))
            peaks[runner] = second["bytes"] / 1e6
            slope = (second["bytes"] - first["bytes"]) / (large - small)
            figures = f"{large:11,} {second['seconds']:9.1f} {second['bytes'] / 1e6:9.0f} {slope:20,.0f}"
            print(f"{scheme:8} {runner:8} {figures}", flush=True)
        if {"local", "beam"} <= peaks.keys():
            ours, theirs = peaks["local"], peaks["beam"]
            what = f"peak memory of the {scheme} shuffle of {large:,} documents"
            print(
                f"ratio: {theirs / ours:.2f}x ({what}; ours {ours:.0f} MB; peer {theirs:.0f} MB; median of 1)",
                flush=True,
            )


if __name__ == "__main__":
    main()
