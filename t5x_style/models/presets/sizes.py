"""Tables of published sizes: every preset looks its sizes up here, so that a wrong name gets the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict, TypeVar

from t5x_style.errors import UserError
from t5x_style.models.config import InitSpec

Shape = TypeVar("Shape")


class Options(TypedDict, total=False):
    """What every preset takes beside its size; fields of TransformerConfig, whose defaults hold."""

    vocab_multiple: int
    init: InitSpec
    remat: Literal["none", "full", "dots"]
    scan: bool


def choose(table: Mapping[str, Shape], size: str, preset: str) -> Shape:
    """The row of `table` for `size`.

    Raises:
      UserError: there is no such size; lists those there are.
    """
    if size not in table:
        raise UserError(f"{preset}: size {size!r} is not known; choose one of {', '.join(table)}")
    return table[size]
