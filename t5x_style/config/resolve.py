"""Names in gin files to classes and functions: short names of a table, dotted names, and what a file imports."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError


def full_name(target: Any) -> str:
    """Example: the class AdamW -> "t5x_style.training.optimizers.AdamW"."""
    return f"{target.__module__}.{target.__qualname__}"


def import_module(name: str) -> ModuleType:
    """Imports a module, from the working directory too: a console script's search path lacks that."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return importlib.import_module(name)


class Resolver:
    """Finds what names mean and remembers it, so that a name of one file can be used short in the next.

    Attributes:
      names: short name -> full name. found: full name -> class or function, of all that was named so far.
      symbols: what the files imported, by the names they gave it.
    """

    def __init__(self, names: Mapping[str, str]):
        self.names = names
        self.found: dict[str, Any] = {}
        self.symbols: dict[str, Any] = {}

    def add(self, target: Any) -> str:
        """Remembers a class or function; returns its full name."""
        self.found[full_name(target)] = target
        return full_name(target)

    def resolve(self, name: str, symbols: Mapping[str, Any]) -> str:
        """The full name of `name`; the file's own imports come first, then the table, then other files' imports.

        Raises:
          UserError: nothing or more than one thing has this name.
        """
        other = None  # what has the name but is no class or function, such as the module `llama` beside the preset
        for target in self._meanings(name, symbols):
            if callable(target) and hasattr(target, "__qualname__"):
                return self.add(target)
            other = target if target is not None else other
        if other is not None:
            raise UserError(f"{name!r} is {other!r}, no class or function")
        raise UserError(f"nothing is called {name!r}{self._near(name, symbols)}")

    def _meanings(self, name: str, symbols: Mapping[str, Any]) -> Iterator[Any]:
        """What a name can mean, None where it means nothing, in the order of `resolve`."""
        yield _attribute(symbols, name)
        yield self._by_table(name)
        yield _attribute(self.symbols, name)
        yield self._by_path(name)

    def _by_table(self, name: str) -> Any:
        """By the short name or any dotted end of the full one, among the table and what was named before."""
        if name in self.names:
            return self._object(self.names[name])
        known = {*self.names.values(), *self.found}
        if name in known:
            return self._object(name)
        fitting = sorted(full for full in known if full.endswith(f".{name}"))
        if len(fitting) > 1:
            raise UserError(f"{name!r} can be {' or '.join(fitting)}; write more of the name")
        return self._object(fitting[0]) if fitting else None

    def _object(self, full: str) -> Any:
        """The class or function of a full name, imported unless it was met before."""
        if full in self.found:
            return self.found[full]
        module, _, name = full.rpartition(".")
        return getattr(importlib.import_module(module), name)

    def _by_path(self, name: str) -> Any:
        """By the full dotted name of something importable."""
        module, _, _ = name.rpartition(".")
        while module:
            try:
                return _attribute({"": import_module(module)}, name[len(module) :])
            except ModuleNotFoundError as error:
                if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                    raise UserError(f"{name!r} cannot be imported: {error}") from error
            module = module.rpartition(".")[0]
        return None

    def _near(self, name: str, symbols: Mapping[str, Any]) -> str:
        last = name.rpartition(".")[2]
        own = {
            attribute: f"{symbol}.{attribute}"
            for symbol, value in symbols.items()
            if isinstance(value, ModuleType)
            for attribute in vars(value)
            if not attribute.startswith("_")
        }
        if mine := difflib.get_close_matches(last, own, n=1, cutoff=0.6):
            return f"; did you mean {own[mine[0]]}?"
        known = {*self.names, *(full.rpartition(".")[2] for full in self.found)}
        near = difflib.get_close_matches(last, known, n=3, cutoff=0.6)
        if near:
            return f"; did you mean {', '.join(near)}?"
        return "; what is not t5x_style's is named with its module: import my_module, @my_module.MyLoss()"


def _attribute(symbols: Mapping[str, Any], name: str) -> Any:
    """symbols["a"].b for "a.b", or None."""
    first, *rest = name.split(".")
    value = symbols.get(first)
    for part in rest:
        value = getattr(value, part, None)
    return value


class Parameters(typing.NamedTuple):
    """What a class or function takes. names: its parameters; required: those without default; hints: their types.

    anything: it has **keywords without a type, so any name may be right.
    """

    names: tuple[str, ...]
    required: tuple[str, ...]
    hints: Mapping[str, Any]
    defaults: Mapping[str, Any]
    anything: bool


def parameters(target: Any) -> Parameters:
    """The parameters of a class or function; `**options: Unpack[SomeTypedDict]` counts as its keys.

    Example: llama2(size="7b", vocab_size=None, **options: Unpack[Options]) -> size, vocab_size, scan, remat, ...
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # some builtins have none
        return Parameters((), (), {}, {}, True)
    hints = _hints(target)
    names, anything = [], False
    defaults: dict[str, Any] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = list(_options(hints.get(parameter.name)))
            anything = anything or not options
            names += [name for name, _ in options]
            hints |= dict(options)
        elif parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            names.append(parameter.name)
            if parameter.default is not inspect.Parameter.empty:
                defaults[parameter.name] = parameter.default
    optional = {name for name, _ in _options_of(signature, hints)} | set(defaults)
    required = tuple(name for name in names if name not in optional)
    return Parameters(tuple(names), required, hints, defaults, anything)


def _hints(target: Any) -> dict[str, Any]:
    """Type hints of a dataclass's fields, of __init__ or of a function; none where one cannot be read."""
    plain = isinstance(target, type) and not hasattr(target, "__dataclass_fields__")
    try:
        return dict(typing.get_type_hints(target.__init__ if plain else target))
    except (NameError, TypeError, AttributeError):  # names that exist for the type checker only
        return {}


def _options_of(signature: inspect.Signature, hints: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            yield from _options(hints.get(parameter.name))


def _options(hint: Any) -> Iterator[tuple[str, Any]]:
    """The keys of Unpack[TypedDict] with their types."""
    if typing.get_origin(hint) is typing.Unpack:
        yield from typing.get_type_hints(typing.get_args(hint)[0]).items()
