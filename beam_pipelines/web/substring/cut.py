"""Cutting ranges of characters out of a text."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    result, done = "", 0  # text[:done] is dealt with
    gap_start: int | None = None  # where the open seam begins
    for start, stop in ranges:
        kept = text[done:start]
        if kept.strip():
            result = _append(result, text, gap_start, done, start)
            result = result.rstrip()
            gap_start = done + len(kept.rstrip())
        elif gap_start is None:
            gap_start = done
        done = stop
    if gap_start is None:
        return text
    return _append(result, text, gap_start, done, len(text)) if text[done:].strip() else result


def _append(result: str, text: str, gap_start: int | None, start: int, stop: int) -> str:
    """Adds text[start:stop], which is not blank, after the seam from `gap_start` to its first character."""
    piece = text[start:stop]
    if gap_start is None:
        return result + piece
    body = piece.lstrip()
    lead = piece[: len(piece) - len(body)]
    if "\n" in lead:
        body = lead[lead.rindex("\n") + 1 :] + body
    if not result:
        return body
    gap = f".{text[gap_start:start]}{lead}."
    lines = len(gap.splitlines())
    return result + ("\n\n" if _BLANK_LINE.search(gap) else "\n" if lines > 1 else " ") + body
