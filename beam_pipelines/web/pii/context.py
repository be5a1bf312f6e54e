"""Where numbers may be personal data: stretches dense with digits, not inside addresses of the web."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

DIGITS = 7  # the shortest telephone number; every other kind has more
_GAP = 4  # from one digit to the next: up to three characters between
_MARGIN = 24  # characters around: the first groups of an IBAN, the letters of a tax code, a telephone extension
_ADDRESS = re.compile(r"(?:://|www\.|[A-Za-z0-9-]\.[A-Za-z]{2,}/)\S*\Z")


def dense_stretches(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of the parts of `text` that have `DIGITS` digits close together; they ascend and do not overlap.

    One pass of numpy: 1 ns a character where there are few digits.
    """
    places = _digit_places(text)
    if len(places) < DIGITS:
        return
    breaks = np.flatnonzero(np.diff(places) > _GAP)
    first, last = np.concatenate([[0], breaks + 1]), np.concatenate([breaks, [len(places) - 1]])
    dense = last - first >= DIGITS - 1
    low = high = -1
    for start, end in zip((places[first[dense]] - _MARGIN).tolist(), (places[last[dense]] + 1 + _MARGIN).tolist()):
        if start > high:
            if high > 0:
                yield max(0, low), high
            low = start
        high = end
    if high > 0:
        yield max(0, low), min(high, len(text))


def in_web_address(text: str, start: int) -> bool:
    """Whether what begins at `start` belongs to a web address: an article's number, say.

    Examples, at the place of the 4: "https://a.com/p/4155", "www.a.com/?id=4155", "a.com/4155" -> True.
    """
    before = text[max(0, start - 200) : start]
    return bool(before) and not before[-1].isspace() and _ADDRESS.search(before) is not None


def _digit_places(text: str) -> np.ndarray:
    if text.isascii():
        return np.flatnonzero(np.frombuffer(text.encode(), np.uint8) - np.uint8(ord("0")) < 10)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_digit = codes - np.uint32(ord("0")) < 10
    # Arabic, Persian, Devanagari, Bengali, Thai and full-width digits are read by the telephone library too.
    if codes.max() >= 0x0660:
        for zero in (0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, 0xFF10):
            is_digit |= codes - np.uint32(zero) < 10
    return np.flatnonzero(is_digit)
