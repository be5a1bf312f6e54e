"""What stands in a gin file, as values: references, macros, and the bindings that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/Name()`, or `@scope/Name` for the class or function itself.

    Attributes:
      scopes: the names before the last slash. name: as written, or full once it is resolved. call: with ().
    """

    scopes: tuple[str, ...]
    name: str
    call: bool

    def __repr__(self):
        return "@" + "/".join((*self.scopes, self.name)) + ("()" if self.call else "")


@dataclasses.dataclass(frozen=True)
class Macro:
    """`%NAME`."""

    name: str

    def __repr__(self):
        return f"%{self.name}"


REQUIRED = Macro("gin.REQUIRED")


class Key(NamedTuple):
    """What is bound: a parameter of a class or function in a scope, or a macro (`target` is empty then).

    Example: `train/DataConfig.split` is Key("train", "t5x_style.data.data_config.DataConfig", "split").
    """

    scope: str
    target: str
    parameter: str

    @property
    def short(self) -> str:
        """As a user would write it: `train/DataConfig.split`, or the macro's name."""
        if not self.target:
            return self.parameter
        return f"{self.scope}{'/' if self.scope else ''}{self.target.rpartition('.')[2]}.{self.parameter}"


class Level(NamedTuple):
    """How much a binding weighs; the greater one holds. kind: 1 library, 2 user's file, 3 command line.

    depth: 0 for a file that is named or that a file of another kind includes, -1 for one that such a file includes,
    and so on: who includes a file has the last word over it.
    """

    kind: int
    depth: int


@dataclasses.dataclass(frozen=True)
class Binding:
    """One `key = value` of a file or of the command line.

    Attributes:
      source: the file, or "" for the command line. place: where to find it, for people.
      must_be_used: it stands in a user's file, in a file named for this run, or on the command line. What other files
        of t5x_style say for parts that a run may not have (an evaluation) need not be used.
    """

    key: Key
    value: Any
    level: Level
    source: str
    place: str
    must_be_used: bool


def leaves(value: Any) -> Iterator[Any]:
    """Every value in nested lists, tuples and mappings (keys too)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(key)
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with every leaf changed."""
    if isinstance(value, Mapping):
        return {replace(key, change): replace(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(replace(item, change) for item in value)
    return change(value)


def is_part(value: Any) -> bool:
    """Whether a reference or a macro stands in the value."""
    return any(isinstance(leaf, (Reference, Macro)) for leaf in leaves(value))
