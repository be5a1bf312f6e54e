"""Which parameters train: shell patterns over their names, the last that matches decides."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from t5x_style.errors import UserError


def trained_names(shapes: Mapping[str, object], patterns: Sequence[str], where: str) -> frozenset[str]:
    """The names that `patterns` choose; arrays of whole numbers (quantised tables) never train.

    Worked example, names trunk/a, trunk/b, head: ("*",) all; ("*", "!trunk/*") head; ("trunk/*", "!*/b") trunk/a;
    () none.

    Args:
      shapes: name -> anything with a dtype. patterns: `*` also matches `/`; one that begins with `!` takes names out.
      where: the setting, for messages.

    Raises:
      UserError: a pattern matches no name.
    """
    floating = [name for name, leaf in shapes.items() if jnp.issubdtype(leaf.dtype, jnp.floating)]  # type: ignore[attr-defined]
    chosen: set[str] = set()
    for pattern in patterns:
        matched = set(fnmatch.filter(shapes, pattern.removeprefix("!")))
        if not matched:
            some = ", ".join(sorted({name.rsplit("/", 1)[0] for name in shapes})[:8])
            raise UserError(f"{where}: {pattern!r} matches no parameter; the names begin with {some}, ...")
        chosen = chosen - matched if pattern.startswith("!") else chosen | matched
    return frozenset(chosen.intersection(floating))
