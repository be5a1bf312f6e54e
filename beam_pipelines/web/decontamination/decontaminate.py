"""Takes evaluation examples out of training documents, by n-gram overlap (GPT-3, appendix C; NeMo's practice).

Brown et al. 2020 (https://arxiv.org/abs/2005.14165) cut 13-grams with 200 characters on each side, throw away pieces
under 200 characters, and documents that fall into more than 10 pieces.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from beam_pipelines.web.decontamination.ngram_index import Matches, NgramIndex, load
from beam_pipelines.web.document import KEEP, Document, Measure, Outcome, Verdict
from t5x_style.errors import UserError

ACTIONS = ("cut", "drop")


class _Span(NamedTuple):
    """Words [start, end) that overlapping n-grams cover, and those n-grams."""

    start: int
    end: int
    matches: list[tuple[int, int, int]]  # (start, length, entry)


@dataclass(frozen=True)
class Decontaminate:
    """Cuts or drops what documents have in common with evaluation examples, and says so in the metadata.

    `metadata["contamination"]` lists [{"set", "example", "ngram", "start", "end"}]: the example, the first matching
    words as they stand in the document, and the characters of the document before cutting that the example's n-grams
    cover. Documents that are themselves in the index (their id is an example's) are left alone.

    Attributes:
      index: a file of `beam_pipelines.build_decontamination_index`; each worker process reads it once.
      action: `cut` the matching words with their surroundings, or `drop` the document.
      characters: cut on each side of a match, up to the next end of a word.
      max_pieces: documents that fall into more are dropped.
      min_piece_characters: shorter pieces are thrown away; a document of which nothing is left is dropped.
      max_texts: n-grams in more different evaluation texts than this are templates, and ignored; None ignores none.
      max_documents: n-grams in more training documents than this are ignored (GPT-3's 10: common phrases, quotations);
        needs an index with counts (`--documents`). None ignores none.

    Raises:
      UserError: no index, an unknown action, negative limits, or `max_documents` with an index without counts.
    """

    index: str
    action: str = "cut"
    characters: int = 200
    max_pieces: int = 10
    min_piece_characters: int = 200
    max_texts: int | None = 10
    max_documents: int | None = None
    name: str = "decontaminate"
    index_config: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise UserError(f"Decontaminate.action {self.action!r} is none of {', '.join(ACTIONS)}")
        for limit in ("characters", "max_pieces", "min_piece_characters", "max_texts", "max_documents"):
            value = getattr(self, limit)
            if value is not None and value < 0:
                raise UserError(f"Decontaminate.{limit} {value} is below 0")
        index = load(self.index)
        if self.max_documents is not None and index.document_counts is None:
            raise UserError(
                f"Decontaminate.max_documents: {self.index} has no counts; build it with --documents, or leave this out"
            )
        object.__setattr__(self, "index_config", json.dumps(index.header, sort_keys=True))

    def apply(self, document: Document) -> Outcome:
        """The document, cut or not, with what was found."""
        index = load(self.index)
        matches = self._counting(index, index.find(document.normalised_words))
        dropping = self.action == "drop"
        measure = Measure("contaminated_ngrams", len(matches.starts), maximum=0 if dropping else None)
        if not len(matches.starts) or document.id in index.sources:
            return Outcome(document, KEEP, (measure._replace(value=0),))
        starts, ends = normalised_spans(document.text, document.normalised_words)
        spans = _merge(matches)
        metadata = json.loads(document.metadata or "{}")
        metadata["contamination"] = [
            record for span in spans for record in _records(document.text, span, index, starts, ends)
        ]
        marked = document.replace(metadata=json.dumps(metadata, ensure_ascii=False))
        if dropping:
            return Outcome(marked, Verdict("contaminated", len(matches.starts), 0), (measure,))
        cuts = self._cuts([(int(starts[span.start]), int(ends[span.end - 1])) for span in spans], starts, ends)
        return self._cut(marked, cuts, len(spans), measure)

    def _counting(self, index: NgramIndex, matches: Matches) -> Matches:
        """The matches of n-grams that are not too common."""
        kept = np.ones(len(matches.starts), bool)
        if self.max_texts is not None:
            kept &= index.texts[matches.entries] <= self.max_texts
        if self.max_documents is not None:
            assert index.document_counts is not None
            kept &= index.document_counts[matches.entries] <= self.max_documents
        return Matches(*(part[kept] for part in matches))

    def _cuts(self, spans: Sequence[tuple[int, int]], starts: np.ndarray, ends: np.ndarray) -> list[tuple[int, int]]:
        """Character ranges to cut: the spans with their surroundings, whole words, joined where they meet."""
        cuts: list[tuple[int, int]] = []
        for start, end in spans:
            # The word that the range begins in goes, and so does the one that it ends in.
            begin = max(0, start - self.characters)
            inside = int(np.searchsorted(ends, begin, side="right"))
            begin = min(begin, int(starts[inside]))
            stop = end + self.characters
            inside = int(np.searchsorted(starts, stop)) - 1
            stop = max(stop, int(ends[inside]))
            if cuts and begin <= cuts[-1][1]:
                cuts[-1] = (cuts[-1][0], max(stop, cuts[-1][1]))
            else:
                cuts.append((begin, stop))
        return cuts

    def _cut(self, document: Document, cuts: Sequence[tuple[int, int]], spans: int, measure: Measure) -> Outcome:
        text = document.text
        borders = [0, *(border for cut in cuts for border in cut), len(text)]
        pieces = [text[begin:end].strip() for begin, end in zip(borders[::2], borders[1::2], strict=True)]
        pieces = [piece for piece in pieces if piece]
        count = Measure("contamination_pieces", len(pieces), maximum=self.max_pieces)
        if (verdict := count.verdict()).reason:
            return Outcome(document, verdict, (measure, count))
        left = [piece for piece in pieces if len(piece) >= self.min_piece_characters]
        if not left:
            longest = max(map(len, pieces), default=0)
            return Outcome(document, Verdict("nothing_left", longest, self.min_piece_characters), (measure, count))
        remaining = "\n\n".join(left)
        edits = {"contaminated_spans": spans, "characters_removed": max(0, len(text) - len(remaining))}
        return Outcome(document.replace(text=remaining), KEEP, (measure, count), edits)


def _merge(matches: Matches) -> list[_Span]:
    """Joins n-grams that overlap."""
    spans: list[_Span] = []
    for start, length, entry in zip(*(part.tolist() for part in matches), strict=True):
        if spans and start < spans[-1].end:
            last = spans[-1]
            last.matches.append((start, length, entry))
            spans[-1] = last._replace(end=max(last.end, start + length))
        else:
            spans.append(_Span(start, start + length, [(start, length, entry)]))
    return spans


def _records(text: str, span: _Span, index: NgramIndex, starts: np.ndarray, ends: np.ndarray) -> list[dict[str, Any]]:
    """One record per example in a span."""
    found: dict[int, dict[str, Any]] = {}
    for start, length, entry in span.matches:
        example = int(index.first_example[entry])
        begin, end = int(starts[start]), int(ends[start + length - 1])
        if example not in found:
            name, identifier = index.examples[example]
            record = {"set": name, "example": identifier, "ngram": text[begin:end], "start": begin, "end": end}
            found[example] = record
        found[example]["end"] = max(end, found[example]["end"])
    return list(found.values())


def normalised_spans(text: str, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Where a text's normalised words stand in it: (starts, ends), int64 [words], in characters.

    Each word is the next occurrence of itself in the lower-cased text: between words there are no word characters.
    Lower-casing makes some characters longer (U+0130 becomes two); positions are those of the text as it was. A sigma's
    lower case depends on its neighbours, which the splitter parts in scripts without spaces: both forms are the same.

    Example: "It's 3.5" with ["it", "s", "3", "5"] -> ([0, 3, 5, 7], [2, 4, 6, 8]).

    Raises:
      ValueError: the words are not those of the text.
    """
    lowered = text.lower().replace("ς", "σ")
    places = np.empty((2, len(words)), np.int64)
    cursor = 0
    for index, word in enumerate(words):
        start = lowered.find(word.replace("ς", "σ"), cursor)
        if start < 0:
            raise ValueError(f"word {index} ({word!r}) is not in the text")
        cursor = start + len(word)
        places[:, index] = start, cursor
    if len(lowered) != len(text):
        lengths = np.fromiter((len(character.lower()) for character in text), np.int64, len(text))
        origin = np.repeat(np.arange(len(text)), lengths)
        places[0] = origin[places[0]]
        places[1] = origin[places[1] - 1] + 1
    return places[0], places[1]
