"""Tables of published sizes: every preset looks its sizes up here, so that a wrong name gets the same answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar

from t5x_style.errors import UserError
from t5x_style.models.specs import DropoutSpec, InitSpec

Shape = TypeVar("Shape")


class Options(TypedDict, total=False):
    """What every preset takes beside its size; fields of TransformerConfig, whose defaults hold."""

    vocab_multiple: int
    init: InitSpec
    dropout: DropoutSpec


def choose(table: Mapping[str, Shape], size: str, preset: str) -> Shape:
    """The row of `table` for `size`.

    Raises:
      UserError: there is no such size; lists those there are.
    """
    if size not in table:
        raise UserError(f"{preset}: size {size!r} is not known; choose one of {', '.join(table)}")
    return table[size]


def arguments(shape: Any, vocab_size: int | None) -> dict[str, Any]:
    """A row, a NamedTuple whose fields are named like a preset's arguments, as those arguments.

    Args:
      vocab_size: in place of the row's; None: the published one.
    """
    published = shape._asdict()
    return published if vocab_size is None else published | {"vocab_size": vocab_size}
