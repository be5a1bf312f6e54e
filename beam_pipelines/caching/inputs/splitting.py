"""Which documents are for validation: a hash of the content decides, so that copies fall on one side."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

TRAIN, VALIDATION = "train", "validation"


def place_of(content: str) -> float:
    """A number in [0, 1) that depends on nothing but the content.

    >>> round(place_of("a"), 3)
    0.535
    """
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def choose_threshold(contents: Iterable[str], fraction: float) -> float:
    """A document is for validation where its place is below this: `fraction`, moved where one side would be empty.

    So many contents are looked at that a side without any among them has, but for one case in e^30, too few of the
    rest to matter; most often a handful is enough.

    >>> choose_threshold(["a", "b"], 0.01) > place_of("a")
    True
    """
    if fraction <= 0:
        return 0.0
    wanted = math.ceil(30 / min(fraction, 1 - fraction))
    places: set[float] = set()
    for number, content in enumerate(contents):
        places.add(place_of(content))
        if number >= wanted or min(places) < fraction <= max(places):
            return fraction
    ordered = sorted(places)
    if len(ordered) < 2:
        return 0.0
    return ordered[1] if ordered[0] >= fraction else ordered[-1]
