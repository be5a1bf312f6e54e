"""Exact substring search: seconds and memory by size of the corpus, both methods, and a dictionary of windows as peer.

    python -m benchmarks.web_substring --sizes 25 50 100 200 [--documents 'DIR/*.parquet'] [--method windows]

The corpus has the asked number of megabytes of UTF-8 text: real documents, repeated as often as needed with every
word marked by its round so that rounds share nothing, or made text. In both, one document in ten has a span of another
planted in it. Key files are written first (their time is given apart: in a pipeline it is part of the map job before).
Then each size is searched in a fresh process, whose peak memory is that of the search. On the smallest size the other
method and the dictionary search too, and all repeats must be the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.document import Document
from beam_pipelines.web.substring.repeats import read_repeats
from beam_pipelines.web.substring.sequences import SequenceWriter, read_index
from beam_pipelines.web.substring.suffix_array import FindBySuffixArray, read_corpus
from beam_pipelines.web.substring.windows import EmitWindows, FindByWindows
from benchmarks.harness import Comparison, ratio_line

LENGTH = 50
DOCUMENTS_PER_UNIT = 20_000
HASH_RANGES = 16


def made_texts(seed: int) -> Iterator[str]:
    """Texts of 100 to 900 words without end, the same on every machine; words are as frequent as Zipf's law has it."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"{'bcdfghklmnprstvz'[n % 16]}{'aeiou'[n % 5]}{n:x}" for n in range(300_000)])
    while True:
        ranks = rng.zipf(1.2, int(rng.integers(100, 900)))
        yield " ".join(vocabulary[ranks % len(vocabulary)])


def real_texts(texts: Sequence[str]) -> Iterator[str]:
    """The texts, then again and again with every word marked by the number of the round."""
    yield from texts
    mark = 1
    while True:
        yield from (" ".join(f"{word}_{mark}" for word in text.split()) for text in texts)
        mark += 1


def with_planted(texts: Iterator[str], seed: int) -> Iterator[str]:
    """One text in ten has a span of 30 to 200 words of one of the last thousand planted in its middle."""
    rng = np.random.default_rng(seed)
    last: list[str] = []
    for text in texts:
        if last and rng.random() < 0.1:
            source, words = last[int(rng.integers(len(last)))].split(), text.split()
            start = int(rng.integers(max(len(source) - 30, 1)))
            middle = len(words) // 2
            words[middle:middle] = source[start : start + int(rng.integers(30, 200))]
            text = " ".join(words)
        last = [*last[-999:], text]
        yield text


def write_corpus(folder: Path, texts: Iterator[str], megabytes: float) -> dict[str, Any]:
    """Writes key files of endless texts up to a size; returns the units' names, bytes and seconds."""
    names: list[str] = []
    total, rows, seconds = 0, 0, 0.0
    while total < megabytes * 1e6:
        names.append(f"{len(names):05d}")
        with open(folder / f"{names[-1]}.keys", "wb") as file:
            writer = SequenceWriter(file, lambda document: document.words)
            for text in itertools.islice(texts, DOCUMENTS_PER_UNIT):
                document = Document(f"{rows}", text, "", "", "", "", 0.0, "{}")
                document.words  # noqa: B018  # split before the clock starts: all stages share them
                start = time.perf_counter()
                writer.add(document)
                seconds += time.perf_counter() - start
                rows += 1
                total += len(text.encode())
                if total >= megabytes * 1e6:
                    break
            start = time.perf_counter()
            writer.close()
            seconds += time.perf_counter() - start
    return {"names": names, "bytes": total, "documents": rows, "key_seconds": seconds}


def by_suffix_array(folder: Path, names: Sequence[str]) -> list[str]:
    """The files of repeats."""
    FindBySuffixArray(str(folder), str(folder), names, LENGTH, "first")(Unit("array", ""))
    return [str(folder / "array.repeats")]


def by_windows(folder: Path, names: Sequence[str]) -> list[str]:
    """The same through the functions of the shuffle, all blocks in memory as the local runner has them."""
    emit, wanted = EmitWindows(str(folder), LENGTH, HASH_RANGES), frozenset(range(HASH_RANGES))
    blocks: list[list[tuple[int, bytes]]] = [[] for _ in wanted]
    for index, name in enumerate(names):
        for part, block in emit(Unit(name, "", {"index": index}), wanted):
            blocks[part].append(block)
    find = FindByWindows(str(folder), len(names), LENGTH, "first")
    for part in range(HASH_RANGES):
        find(Unit(f"{part:05d}", ""), blocks[part])
    return [str(folder / f"{part:05d}.repeats") for part in range(HASH_RANGES)]


def by_dictionary(folder: Path, names: Sequence[str]) -> np.ndarray:
    """uint64 [k] windows that are repeats, from a dictionary of tuples of words: what one writes first."""
    symbols, _, bounds = read_corpus([str(folder / f"{name}.keys") for name in names])
    first: dict[tuple[int, ...], int] = {}
    repeats = []
    for unit, name in enumerate(names):
        at = 0
        own = symbols[bounds[unit] : bounds[unit + 1]].tolist()
        for length in read_index(str(folder / f"{name}.keys")).lengths.tolist():
            for place in range(at, at + length - LENGTH + 1):
                window = unit << 32 | place
                if window - first.setdefault(tuple(own[place : place + LENGTH]), window) >= LENGTH:
                    repeats.append(window)
            at += length
    return np.array(repeats, np.uint64)


METHODS = {"suffix_array": by_suffix_array, "windows": by_windows, "dictionary": by_dictionary}


def search(method: str, folder: str, names: Sequence[str]) -> tuple[float, float, Any]:
    """In a process of its own: (seconds, megabytes of peak memory above the start, what the method returns)."""
    before = peak_memory()
    start = time.perf_counter()
    found = METHODS[method](Path(folder), names)
    seconds = time.perf_counter() - start
    return seconds, (peak_memory() - before) / 1e6, found


def peak_memory() -> int:
    """Bytes this process had at most. Linux's getrusage would count the parent's from before the exec."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])


def measured(method: str, folder: Path, names: Sequence[str]) -> tuple[float, float, Any]:
    """`search` in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(search, (method, str(folder), names))


def windows_of(found: Any, units: int) -> np.ndarray:
    """uint64 [k] windows that are repeats, in order."""
    if isinstance(found, np.ndarray):
        return found
    windows = [read_repeats(path, unit, units)["window"] for path in found for unit in range(units)]
    return np.sort(np.concatenate(windows))


def load_texts(pattern: str) -> list[str]:
    """The texts of Parquet documents."""
    import pyarrow.parquet as pq

    from beam_pipelines.files import storage

    return [
        text
        for path in storage.expand([pattern])
        for text in pq.read_table(path, columns=["text"]).column("text").to_pylist()
        if text
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line per size and last the ratio."""
    parser = argparse.ArgumentParser(prog="benchmarks.web_substring", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[10, 20], metavar="MB", help="of text")
    parser.add_argument("--documents", metavar="GLOB", help="Parquet documents instead of made text")
    parser.add_argument("--method", choices=["suffix_array", "windows"], default="suffix_array")
    parser.add_argument("--compared", type=float, default=10.0, metavar="MB", help="size for the peer's turn")
    arguments = parser.parse_args(argv)
    sources = load_texts(arguments.documents) if arguments.documents else None

    def corpus(folder: Path, megabytes: float) -> dict[str, Any]:
        texts = real_texts(sources) if sources else made_texts(seed=1)
        return write_corpus(folder, with_planted(texts, seed=2), megabytes)

    rates: dict[float, float] = {}
    for megabytes in sorted(arguments.sizes):
        with tempfile.TemporaryDirectory() as name:
            made = corpus(Path(name), megabytes)
            size, names = made["bytes"] / 1e6, made["names"]
            seconds, memory, found = measured(arguments.method, Path(name), names)
            words = sum(int(read_index(f"{name}/{unit}.keys").lengths.sum()) for unit in names)
            rates[megabytes] = size / seconds
            figures = {
                "MB": round(size, 1),
                "words": words,
                "documents": made["documents"],
                "repeats": len(windows_of(found, len(names))),
                "key_seconds": round(made["key_seconds"], 2),
                "seconds": round(seconds, 2),
                "MB/s": round(size / seconds, 2),
                "peak_MB": round(memory),
                "bytes_per_byte": round(memory / size, 2),
                "bytes_per_word": round(memory * 1e6 / words, 1),
            }
            print(f"{arguments.method}: {json.dumps(figures)}")
    smallest, largest = min(rates), max(rates)
    print(f"linear: {largest:g} MB at {rates[largest] / rates[smallest]:.2f} times the rate of {smallest:g} MB")
    with tempfile.TemporaryDirectory() as name:
        made = corpus(Path(name), arguments.compared)
        size, names = made["bytes"] / 1e6, made["names"]
        results = {method: measured(method, Path(name), names) for method in METHODS}
        windows = {method: windows_of(found, len(names)) for method, (_, _, found) in results.items()}
    for method, (seconds, memory, _) in results.items():
        print(f"{method}: {size:.1f} MB, {seconds:.2f} s, {memory:.0f} MB, {len(windows[method])} repeats")
    if not all(np.array_equal(windows["dictionary"], other) for other in windows.values()):
        print("the methods differ")
        return 1
    ours, peer = size / results[arguments.method][0], size / results["dictionary"][0]
    what = f"exact substring search by {arguments.method}, {size:.0f} MB, same repeats"
    print(ratio_line(what, "MB/s", Comparison(ours, peer, 1)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
