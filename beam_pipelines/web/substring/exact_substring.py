"""Exact substring deduplication (Lee et al. 2022): long spans of words that stand elsewhere too are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from beam_pipelines.text.words import word_spans
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.document import Document, Outcome
from beam_pipelines.web.substring.cut import cut_outcome
from beam_pipelines.web.substring.repeats import FIRST, NONE
from beam_pipelines.web.substring.search import AUTO, METHODS, Search, check_parameters
from beam_pipelines.web.substring.sequences import SequenceWriter
from beam_pipelines.web.substring.spans import Span, read_spans
from t5x_style.errors import UserError


@dataclass(frozen=True)
class ExactSubstring:
    """Cuts every span of at least `length` words that also stands elsewhere, and drops what is left too short.

    Words are the document's (`Document.words`), so that a span matches whatever the space between its words is, and a
    cut never parts a character from its marks. A word is cut if some window of `length` words it lies in is a repeat
    (see `substring.repeats`): with keep="first" the same window stands earlier, in a document before or in the same
    one without overlapping; with keep="none" anywhere else. Matches never run across documents.

    Example, length 3: of "a b c d e" and "x b c d y", keep="first" leaves the first and "x y"; keep="none" leaves
    "a e" and "x y".

    What is cut is in the metadata under the stage's name, span by span: [first character, one past the last, id of the
    document in which the span's first `length` words stand first], characters counted in the text as it came in. The
    id is null with keep="none", which keeps no copy. A document that is dropped keeps its text.

    Attributes:
      length: words; 50 as in the paper and in RefinedWeb (tokens there).
      keep: `first` copy in input order (file, row, word), or `none` as the public tool does.
      min_characters: documents cut to fewer characters are dropped (RefinedWeb: 20).
      method, max_memory_mb, hash_ranges: see `substring.search.Search`; they change the cost, never the result.

    Raises:
      UserError: a parameter is out of range.
    """

    length: int = 50
    keep: str = FIRST
    min_characters: int = 20
    method: str = AUTO
    max_memory_mb: int = 4000
    hash_ranges: int = 16
    name: str = "exact_substring"

    def __post_init__(self) -> None:
        if self.keep not in (FIRST, NONE):
            raise UserError(f"ExactSubstring.keep is {self.keep!r}; it must be 'first' or 'none'")
        if self.method not in METHODS:
            raise UserError(f"ExactSubstring.method is {self.method!r}; it must be one of {', '.join(METHODS)}")
        check_parameters(self, length=1, min_characters=0)

    def start(self, file: IO[bytes]) -> SequenceWriter:
        """See `CorpusStage`."""
        return SequenceWriter(file, lambda document: document.words)

    def find(self, corpus: Corpus) -> Findings:
        """See `CorpusStage`."""
        copies = self.keep == FIRST
        return Search(self.length, self.keep, self.method, self.max_memory_mb, self.hash_ranges, copies).find(corpus)

    def load(self, path: str, start: int, stop: int) -> Mapping[int, list[Span]]:
        """See `CorpusStage`: {row: spans of words to cut}."""
        assert stop == start + 1, (start, stop)
        return read_spans(path, start)

    def apply_finding(self, document: Document, finding: Sequence[Span] | None) -> Outcome:
        """See `CorpusStage`."""
        if not finding:
            return Outcome(document)
        starts, ends = word_spans(document.text, document.words)
        ranges = [(int(starts[span.start]), int(ends[span.stop - 1])) for span in finding]
        cuts = [[*place, span.copy or None] for place, span in zip(ranges, finding, strict=True)]
        words = sum(span.stop - span.start for span in finding)
        return cut_outcome(document, self.name, ranges, cuts, {"words_cut": words}, self.min_characters)
