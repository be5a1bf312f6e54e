"""The driver's part: which jobs find the repeated spans of a corpus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.substring.spans import GatherSpans
from beam_pipelines.web.substring.suffix_array import FindBySuffixArray, memory_of
from beam_pipelines.web.substring.windows import BYTES_PER_WINDOW, EmitWindows, FindByWindows
from t5x_style.errors import UserError

AUTO, SUFFIX_ARRAY, WINDOWS = "auto", "suffix_array", "windows"
METHODS = (AUTO, SUFFIX_ARRAY, WINDOWS)
MAX_HASH_RANGES = 2**16  # parts are sorted as 16-bit numbers
_MEGABYTE = 1_000_000


def check_parameters(stage: Any, **minimums: int) -> None:
    """Raises UserError for a field of a stage that is out of range: those given here and those that `Search` shares."""
    owner = type(stage).__name__
    for field, minimum in {**minimums, "max_memory_mb": 1, "hash_ranges": 1}.items():
        if (value := getattr(stage, field)) < minimum:
            raise UserError(f"{owner}.{field} is {value}; it must be at least {minimum}")
    if stage.hash_ranges > MAX_HASH_RANGES:
        raise UserError(f"{owner}.hash_ranges is {stage.hash_ranges}; it must be at most {MAX_HASH_RANGES}")


@dataclass(frozen=True)
class Search:
    """How repeats are searched; the spans are the same whatever `method`, `max_memory_mb` and `hash_ranges` are.

    Attributes:
      length, keep: see `repeats`.
      method: `suffix_array`, `windows`, or `auto`: the suffix array where the corpus fits `max_memory_mb`.
      max_memory_mb: bounds the suffix array's task and each part of the shuffle, of which every process has one.
      hash_ranges: parts of the shuffle at least; there are more where one would not fit `max_memory_mb`.
      copies: whether the documents that hold the kept copies are looked up.
    """

    length: int
    keep: str
    method: str
    max_memory_mb: int
    hash_ranges: int
    copies: bool

    def find(self, corpus: Corpus) -> Findings:
        """Runs two jobs, repeats and spans; the second is numbered the same whichever method the first one takes."""
        names = [unit.name for unit in corpus.units]
        # 4 bytes a symbol and some more: sizes of files are all that the driver needs to know.
        symbols = sum(storage.size(storage.join(corpus.keys, f"{name}.keys")) for name in names) // 4
        fits = memory_of(symbols) <= self.max_memory_mb * _MEGABYTE
        if self.method == SUFFIX_ARRAY or (self.method == AUTO and fits):
            repeats = self._by_suffix_array(corpus, names)
        else:
            repeats = self._by_windows(corpus, symbols)
        units = [Unit(unit.name, corpus.key, unit.arguments) for unit in corpus.units]
        folder, results = corpus.map(
            units, lambda folder: GatherSpans(folder, corpus.keys, repeats, names, self.length, self.copies)
        )
        ranges = {
            unit.name: (unit.arguments["index"], unit.arguments["index"] + 1, results[unit.name]["digest"])
            for unit in corpus.units
        }
        return Findings(folder, ranges)

    def _by_suffix_array(self, corpus: Corpus, names: list[str]) -> list[str]:
        """One task; returns its file of repeats."""
        name, folder = corpus.new_job()
        find = FindBySuffixArray(folder, corpus.keys, names, self.length, self.keep)
        task = Unit(SUFFIX_ARRAY, corpus.key)
        run_job(corpus.runner, Job(name, folder, [task], corpus.described, find))
        return [storage.join(folder, f"{task.name}.repeats")]

    def _by_windows(self, corpus: Corpus, symbols: int) -> list[str]:
        """One shuffle; returns the files of repeats."""
        ranges = self._ranges(symbols)
        parts = [Unit(f"{part:05d}", corpus.key) for part in range(ranges)]
        emit = EmitWindows(corpus.keys, self.length, ranges)
        folder, _ = corpus.shuffle(
            parts, emit, lambda folder: FindByWindows(folder, len(corpus.units), self.length, self.keep)
        )
        return [storage.join(folder, f"{part.name}.repeats") for part in parts]

    def _ranges(self, symbols: int) -> int:
        """Parts of the shuffle, so many that one fits the memory bound."""
        needed = math.ceil(symbols * BYTES_PER_WINDOW / (self.max_memory_mb * _MEGABYTE))
        return min(max(self.hash_ranges, needed), MAX_HASH_RANGES)
