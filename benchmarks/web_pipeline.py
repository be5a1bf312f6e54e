"""Whole pipeline from WARC to deduplicated documents: pages/s and core against datatrove, and 1 to 2 processes.

    python -m benchmarks.web_pipeline --input 'pages-*.warc.gz' --peer_python .venv-peers/bin/python [--copies 4]

Both sides do what gin/web/fineweb.gin does: read, URL words, trafilatura, language, Gopher repetition, Gopher quality,
C4, FineWeb rules, MinHash 14 x 8 with clustering. Each runs as its own command, start-up included, in the same run,
with one process and with two. Ours runs a second time with the `auto` extractor. Wall time needs an idle machine.
The peer's environment is made by `make peers`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import Comparison, ratio_line

# What the peer's environment runs: argv is the input folder, output folder, workers, tasks, path of lid.176.ftz.
PEER = r"""
import importlib.metadata
import sys
from datatrove.utils import lid
folder, output, workers, tasks, model = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
lid.cached_asset_path_or_download = lambda *args, **kwargs: model
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (
    C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter, LanguageFilter, URLFilter)
from datatrove.pipeline.readers import JsonlReader, WarcReader
from datatrove.pipeline.writers.jsonl import JsonlWriter

def run(pipeline, tasks, name):
    LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(workers, tasks), logging_dir=f"{output}/logs/{name}",
                          start_method="fork").run()

config = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
if __name__ == "__main__":
    run([WarcReader(folder, glob_pattern="*.warc.gz"), URLFilter(use_integrated_lists=False),
         Trafilatura(favour_precision=False, deduplicate=False, timeout=30), LanguageFilter("en"),
         GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
         FineWebQualityFilter(), JsonlWriter(f"{output}/filtered")], tasks, "filter")
    run([JsonlReader(f"{output}/filtered"), MinhashDedupSignature(f"{output}/signatures", config)], tasks, "signatures")
    run([MinhashDedupBuckets(f"{output}/signatures", f"{output}/buckets", config=config)], 14, "buckets")
    run([MinhashDedupCluster(f"{output}/buckets", f"{output}/remove", config=config)], 1, "cluster")
    run([JsonlReader(f"{output}/filtered"), MinhashDedupFilter(f"{output}/remove"), JsonlWriter(f"{output}/documents")],
        tasks, "documents")
"""
COUNT = "import gzip, glob, sys; print(sum(1 for f in glob.glob(sys.argv[1]) for _ in gzip.open(f)))"


class Cost(NamedTuple):
    """What one run took and gave."""

    wall: float
    cpu: float
    documents: int


def timed(command: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """(wall seconds, processor seconds of the command and its children)."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[:4]} failed: {done.stderr[-2000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(inputs: Sequence[str], folder: Path, workers: int, bindings: Sequence[str]) -> Cost:
    """One run of clean_web with the FineWeb recipe."""
    output = folder / "ours"
    command = [sys.executable, "-m", "beam_pipelines.clean_web", "--input", *inputs, "--output", str(output)]
    command += ["--gin_file", "gin/web/fineweb.gin", "--workers", str(workers), *bindings]
    wall, cpu = timed(command, {**os.environ, "CI": "true"})
    documents = json.loads((output / "stats.json").read_text())["documents"]
    shutil.rmtree(output)
    return Cost(wall, cpu, documents)


def peer(python: str, inputs: Path, folder: Path, workers: int, tasks: int, model: str) -> Cost:
    """One run of the peer."""
    output = folder / "peer"
    script = folder / "peer.py"
    script.write_text(PEER)
    wall, cpu = timed([python, str(script), str(inputs), str(output), str(workers), str(tasks), model], {**os.environ})
    count = subprocess.run(
        [python, "-c", COUNT, f"{output}/documents/*.gz"], capture_output=True, text=True, check=True
    )
    shutil.rmtree(output)
    return Cost(wall, cpu, int(count.stdout))


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line a run and the ratio last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", nargs="+", required=True, help="WARC files (globs)")
    parser.add_argument("--peer_python", help="interpreter that can import datatrove; ours alone without it")
    parser.add_argument("--copies", type=int, default=4, help="how often each file is taken, to make start-up small")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)

    from beam_pipelines.files import storage
    from beam_pipelines.web.archives.read_warc import ReadWarc
    from beam_pipelines.web.text.language import packaged_model

    files = storage.expand(arguments.input)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        copies = []
        for index, path in enumerate(files * arguments.copies):
            copies.append(folder / "in" / f"{index:03d}.warc.gz")
            shutil.copy(path, copies[-1])
        pages = arguments.copies * _count_pages(ReadWarc(), files)
        inputs = [str(path) for path in copies]
        runs: dict[str, list[Cost]] = {}
        for _ in range(arguments.repeats):
            for workers in (1, 2):
                for extractor in ("trafilatura", "auto"):
                    cost = ours(inputs, folder, workers, [f"--gin.EXTRACTOR='{extractor}'"])
                    runs.setdefault(f"ours, {extractor}, {workers}", []).append(cost)
                if arguments.peer_python:
                    cost = peer(arguments.peer_python, folder / "in", folder, workers, len(inputs), packaged_model())
                    runs.setdefault(f"datatrove, {workers}", []).append(cost)
    rate = {}
    for label, costs in runs.items():
        wall, cpu = (statistics.median(cost[index] for cost in costs) for index in (0, 1))
        workers = int(label.rsplit(" ", 1)[1])
        rate[label] = pages / wall / workers
        print(
            f"{label} process(es): {wall:.1f} s wall, {cpu:.1f} s processor, "
            f"{pages / wall / workers:.1f} pages/s/process, {costs[0].documents} documents of {pages} pages"
        )
    for label in ("ours, trafilatura", "ours, auto", "datatrove"):
        if f"{label}, 2" in rate:
            print(f"{label}: 1 to 2 processes {2 * rate[f'{label}, 2'] / rate[f'{label}, 1']:.2f}x")
    if arguments.peer_python:
        for kind in ("trafilatura", "auto"):
            result = Comparison(rate[f"ours, {kind}, 2"], rate["datatrove, 2"], arguments.repeats)
            print(ratio_line(f"whole pipeline, {kind}, {pages} pages, 2 processes", "pages/s/process", result))
    return 0


def _count_pages(reader: object, files: Sequence[str]) -> int:
    from collections import Counter

    from beam_pipelines.web.archives.read_warc import ReadWarc
    from beam_pipelines.web.document import Page

    assert isinstance(reader, ReadWarc)
    return sum(isinstance(page, Page) for path in files for page in reader.pages(path, path, Counter()))


if __name__ == "__main__":
    sys.exit(main())
