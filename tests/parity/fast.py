"""Which parameters of a test belong to the fast selection of `make test-parity`; the others are marked slow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def slow_except(ids: Iterable[str] | Mapping[str, tuple], *fast: str) -> list[Any]:
    """Parameters by their ids, marked slow where `fast` does not name them; a name of no parameter is a mistake.

    Args:
      ids: what is one parameter and its id; or tuples of several parameters by their ids.

    Example: slow_except(["bert", "roberta"], "bert") -> ["bert", "roberta" marked slow].
    """
    rows = ids if isinstance(ids, Mapping) else {name: (name,) for name in ids}
    assert set(fast) <= set(rows), sorted(set(fast) - set(rows))
    return [
        pytest.param(*values, id=name, marks=() if name in fast else pytest.mark.slow) for name, values in rows.items()
    ]
