"""C4's deduplication (Raffel et al. 2020): lines, or runs of lines, that came before are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, NamedTuple

from beam_pipelines.text.sentences import split_sentences
from beam_pipelines.text.words import split_words
from beam_pipelines.web.corpus_stage import Corpus, Findings
from beam_pipelines.web.document import Document, Outcome
from beam_pipelines.web.substring.cut import cut_outcome
from beam_pipelines.web.substring.repeats import FIRST
from beam_pipelines.web.substring.search import WINDOWS, Search, check_parameters
from beam_pipelines.web.substring.sequences import SequenceWriter
from beam_pipelines.web.substring.spans import Span, read_spans
from t5x_style.errors import UserError

LINES, SENTENCES = "lines", "sentences"


class Line(NamedTuple):
    """A line or sentence without the space around it: text[start:stop]; `key` is what is compared."""

    start: int
    stop: int
    key: str


@dataclass(frozen=True)
class LineDedup:
    """Removes every line that stands earlier, in a document before (file, row) or in the same one.

    Lines are compared without the space around them and in lower case, as 96-bit hashes. With `span` lines, runs of
    that many lines in a row are compared, and a line goes if it lies in a run that stands earlier and does not overlap
    it. Blank lines and those under `line_min_words` or `line_min_characters` are passed over: neither removed nor
    counted as part of a run. unit="sentences" takes sentences for lines, by the rules of the document's language: with
    span=3 that is the paper's rule, while the code published with it in TFDS compares single lines, as is done here
    unless asked otherwise.

    Example: "Menu\\nOne." and "menu\\nTwo." -> the second becomes "Two.".

    What is removed is in the metadata under the stage's name: [first character, one past the last], counted in the
    text as it came in.

    Attributes:
      unit: `lines` or `sentences`.
      span: of them in a row.
      line_min_words, line_min_characters: shorter ones are exempt; 0 for none.
      min_words, min_characters: documents left with less are dropped if something was removed (RefinedWeb, of
        substrings: 20 characters).
      max_memory_mb, hash_ranges: see `substring.search.Search`; they change the cost, never the result.

    Raises:
      UserError: a parameter is out of range.
    """

    unit: str = LINES
    span: int = 1
    line_min_words: int = 0
    line_min_characters: int = 0
    min_words: int = 0
    min_characters: int = 20
    max_memory_mb: int = 4000
    hash_ranges: int = 4
    name: str = "line_dedup"

    def __post_init__(self) -> None:
        if self.unit not in (LINES, SENTENCES):
            raise UserError(f"LineDedup.unit is {self.unit!r}; it must be '{LINES}' or '{SENTENCES}'")
        check_parameters(self, span=1, line_min_words=0, line_min_characters=0, min_words=0, min_characters=0)

    def lines(self, document: Document) -> list[Line]:
        """The lines or sentences that are compared, in order."""
        text, found, start = document.text, [], 0
        if self.unit == LINES:
            pieces = text.splitlines(keepends=True)
        else:
            pieces = split_sentences(text, document.language or "en")
        for piece in pieces:
            body = piece.strip()
            if body and len(body) >= self.line_min_characters:
                at = start + piece.index(body)
                if not self.line_min_words or len(split_words(body)) >= self.line_min_words:
                    found.append(Line(at, at + len(body), body.lower()))
            start += len(piece)
        return found

    def start(self, file: IO[bytes]) -> SequenceWriter:
        """See `CorpusStage`."""
        return SequenceWriter(file, lambda document: [line.key for line in self.lines(document)])

    def find(self, corpus: Corpus) -> Findings:
        """See `CorpusStage`."""
        return Search(self.span, FIRST, WINDOWS, self.max_memory_mb, self.hash_ranges, copies=False).find(corpus)

    def load(self, path: str, start: int, stop: int) -> Mapping[int, list[Span]]:
        """See `CorpusStage`: {row: runs of lines to remove}."""
        assert stop == start + 1, (start, stop)
        return read_spans(path, start)

    def apply_finding(self, document: Document, finding: Sequence[Span] | None) -> Outcome:
        """See `CorpusStage`."""
        if not finding:
            return Outcome(document)
        lines = self.lines(document)
        gone = [line for span in finding for line in lines[span.start : span.stop]]
        ranges: list[tuple[int, int]] = []
        for line in gone:
            if ranges and not document.text[ranges[-1][1] : line.start].strip():
                ranges[-1] = (ranges[-1][0], line.stop)
            else:
                ranges.append((line.start, line.stop))
        return cut_outcome(
            document,
            self.name,
            ranges,
            [list(place) for place in ranges],
            edits={"lines_cut": len(gone)},
            min_characters=self.min_characters,
            min_words=self.min_words,
        )
