"""Whether values fit type hints: what gin files get wrong, found before anything is built and once more after it."""

from __future__ import annotations

import collections.abc
import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ANYTHING = object()  # stands for a value that is not known yet; fits every hint


@dataclasses.dataclass(frozen=True)
class ToBeMade:
    """Stands for an instance of a class that is not made yet; fits what an instance would fit."""

    of: type


def check_types(value: Any, where: str) -> Iterator[str]:
    """Yields one message for every field of a dataclass tree whose value does not fit its annotation.

    Lists, tuples and mappings of dataclasses are followed. An int is taken where a float is meant, a list where a tuple
    is meant. Example: "TrainRun.profile_steps is (5,), must be tuple[int, int] | None".
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return
    try:
        hints = typing.get_type_hints(type(value))
    except NameError:  # names that exist for the type checker only
        hints = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        hint = hints.get(field.name, Any)
        if not fits(item, hint):
            yield f"{where}.{field.name} is {item!r}, must be {name_of(hint)}"
        if isinstance(item, Mapping):
            inner = [(f"[{key!r}]", part) for key, part in item.items()]
        elif isinstance(item, (list, tuple)):
            inner = [(f"[{index}]", part) for index, part in enumerate(item)]
        else:
            inner = [("", item)]
        for suffix, part in inner:
            yield from check_types(part, f"{where}.{field.name}{suffix}")


def name_of(hint: Any) -> str:
    """A hint as a user would write it. Example: Mapping[str, float] | None -> "dict[str, float] | None"."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    text = re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(hint))
    return re.sub(r"\bSequence\b", "list", re.sub(r"\bMapping\b", "dict", text))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value fits a hint; hints that say nothing checkable (protocols, type variables) are fitted by all."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is ANYTHING or hint is Any:
        return True
    if isinstance(value, ToBeMade) and issubclass(value.of, (list, tuple, Mapping)):
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is typing.Annotated:
        return fits(value, arguments[0])
    if origin in (collections.abc.Callable, type) or hint is collections.abc.Callable:
        return _is_callable(value)
    if origin is tuple or origin in (list, Sequence, collections.abc.Iterable):
        return isinstance(value, (list, tuple)) and _items_fit(value, origin, arguments)
    if origin in (dict, Mapping, collections.abc.MutableMapping):
        return isinstance(value, Mapping) and all(
            fits(key, arguments[0]) and fits(item, arguments[1]) for key, item in value.items()
        )
    return _is_one(value, hint)


def _is_callable(value: Any) -> bool:
    if isinstance(value, ToBeMade):
        return any("__call__" in vars(base) for base in value.of.__mro__)
    return callable(value)


def _items_fit(value: Sequence[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    """tuple[int, int] has two items, tuple[int, ...] and list[int] any number."""
    if not arguments:
        return True
    if origin is tuple and arguments[-1] is not Ellipsis:
        if arguments == ((),):  # tuple[()]
            return not value
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    return all(fits(item, arguments[0]) for item in value)


def _is_one(value: Any, hint: Any) -> bool:
    """Plain classes: numbers, texts, dataclasses and base classes."""
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint is None or hint is type(None):
        return value is None
    if hint in (list, tuple, Sequence):
        return isinstance(value, (list, tuple))
    if typing.is_typeddict(hint):
        return isinstance(value, Mapping)
    if isinstance(hint, type) and not getattr(hint, "_is_protocol", False):
        return issubclass(value.of, hint) if isinstance(value, ToBeMade) else isinstance(value, hint)
    return True
