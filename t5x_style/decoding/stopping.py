"""Where a continuation ends: at an end id, or at a string of its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]


def cut_at(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string in it. Example: cut_at("a b\\n\\nQ:", ["Q:", "\\n\\n"]) is "a b"."""
    found = [place for place in (text.find(string) for string in stop) if place >= 0]
    return text[: min(found)] if found else text


def until_stop(tokens: list[int], decode: Decode, stop: Sequence[str], checked: int = 0) -> int | None:
    """How many tokens it takes until the text holds a stop string; None: it never does.

    Args:
      checked: so many tokens are known to hold none.
    """
    if not _holds(decode(tokens), stop):
        return None
    for count in range(checked + 1, len(tokens)):
        if _holds(decode(tokens[:count]), stop):
            return count
    return len(tokens)


def until_end(tokens: list[int], end_ids: Sequence[int]) -> list[int]:
    """The tokens before the first end id. Example: until_end([5, 6, 1, 0], [1, 2]) is [5, 6]."""
    ends = [place for place, token in enumerate(tokens) if token in end_ids]
    return tokens[: ends[0]] if ends else tokens


def _holds(text: str, stop: Sequence[str]) -> bool:
    return any(string in text for string in stop)
