"""Cutting ranges of characters out of a text, and what becomes of its document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from beam_pipelines.web.document import Document, Measure, Outcome, take_measures

_BLANK_LINE = re.compile(r"\n\s*\n")


def cut_ranges(text: str, ranges: Sequence[tuple[int, int]]) -> str:
    """`text` without the ranges [start, stop), which ascend and do not overlap, its seams tidied.

    At a seam the space on both sides and the range together become a blank line if there is one in them, otherwise a
    line break if there is one, otherwise a space: what stands left and right is never joined to one word, in scripts
    without spaces either, and shares a line only if it did before. The indentation of a line that follows stays.
    Nothing is put where a cut reaches the beginning or the end.

    Examples:
      "a b c", [(2, 3)] -> "a c"
      "a b\\n  c", [(2, 3)] -> "a\\n  c"
      "甲乙丙", [(1, 2)] -> "甲 丙"
    """
    if not ranges:
        return text
    edges = [0, *(edge for cut in ranges for edge in cut), len(text)]
    pieces: list[str] = []
    end = 0  # of the piece before, without the space after it
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        piece = text[start:stop]
        if not piece.strip():
            continue
        body = piece.lstrip() if start else piece
        begin = stop - len(body)
        if stop < len(text):
            body = body.rstrip()
        if pieces:
            pieces.append(_separator(text[end:begin]))
        _, line_break, indentation = text[start:begin].rpartition("\n")
        pieces.append(indentation + body if line_break else body)
        end = begin + len(body)
    return "".join(pieces)


def _separator(gap: str) -> str:
    """What takes the place of a cut together with the space around it."""
    if _BLANK_LINE.search(gap):
        return "\n\n"
    return "\n" if len(f".{gap}.".splitlines()) > 1 else " "


def cut_outcome(
    document: Document,
    name: str,
    ranges: Sequence[tuple[int, int]],
    recorded: Sequence[Sequence[object]],
    edits: Mapping[str, int],
    min_characters: int,
    min_words: int = 0,
) -> Outcome:
    """The document without `ranges`; or, if too little is left, rejected with the text it came with, nothing counted.

    Args:
      document: as it came.
      name: the stage's, under which `recorded` goes into the metadata.
      ranges: characters to cut.
      recorded: what the metadata say about them.
      edits: counts to which those of documents, spans and characters are added.
      min_characters, min_words: that must be left.
    """
    text = cut_ranges(document.text, ranges)
    metadata = json.dumps({**json.loads(document.metadata), name: recorded}, ensure_ascii=False)
    changed = document.replace(text=text, metadata=metadata)
    removed = len(document.text) - len(text)
    verdict, measures = take_measures(_left(changed, removed / max(len(document.text), 1), min_characters, min_words))
    if verdict.reason:
        return Outcome(document.replace(metadata=metadata), verdict, measures)
    counted = {**edits, "documents_cut": 1, "spans_cut": len(ranges), "characters_cut": removed}
    return Outcome(changed, measures=measures, edits=counted)


def _left(document: Document, fraction: float, min_characters: int, min_words: int) -> Iterator[Measure]:
    """Measures of a document that was cut."""
    yield Measure("fraction_cut", fraction)
    reason = "too_short_after_cut"
    yield Measure("characters_left", len(document.text), minimum=min_characters, reason=reason)
    if min_words:
        yield Measure("words_left", len(document.words), minimum=min_words, reason=reason)
