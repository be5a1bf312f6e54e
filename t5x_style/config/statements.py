"""gin files and command-line bindings to a list of `Binding`s with levels. gin parses; the names are resolved here."""

from __future__ import annotations

import difflib
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t5x_style.config.find import find_gin_file, is_library_file
from t5x_style.config.resolve import Resolver, import_module, parameters
from t5x_style.config.values import REQUIRED, Binding, Key, Level, Macro, Reference, replace
from t5x_style.errors import UserError

_LIBRARY, _USER, _COMMAND_LINE = 1, 2, 3


class Origin(NamedTuple):
    """What all bindings of one file have in common (see `Binding`)."""

    level: Level
    source: str
    must_be_used: bool


def read_file(name: str, resolver: Resolver) -> list[Binding]:
    """The bindings of a gin file and of all that it includes, in the order of their lines.

    Raises:
      UserError: the file or an included one cannot be read, with file and line.
    """
    return list(_file(find_gin_file(name), resolver, None, ()))


def read_binding(text: str, resolver: Resolver) -> list[Binding]:
    """The binding of a command-line override `NAME = VALUE`.

    Raises:
      UserError: it is none; the message begins with the option as it was given.
    """
    name, _, value = (part.strip() for part in text.partition("="))
    place = f"--gin.{name}={value}"
    try:
        statements = list(_parse(text))
    except (SyntaxError, tokenize.TokenError) as error:
        hint = f"{value!r} is no gin value; strings need quotes: --gin.{name}=\"'{value}'\""
        if value in resolver.names:
            hint = f"{value!r} is no gin value; did you mean --gin.{name}=@{value}()?"
        raise UserError(f"{place}: {hint}") from error
    from gin import config_parser

    if len(statements) != 1 or not isinstance(statements[0], config_parser.BindingStatement):
        raise UserError(f"{place} is no binding; write --gin.NAME=VALUE")
    return [_binding(statements[0], resolver, {}, Origin(Level(_COMMAND_LINE, 0), "", True), place)]


def _file(path: Path, resolver: Resolver, above: Level | None, chain: tuple[Path, ...]) -> Iterator[Binding]:
    """Bindings of one file. above: the level of the file that includes it; chain: all files that do."""
    from gin import config_parser

    if path.resolve() in chain:
        raise UserError(f"{chain[-1]} includes {path}, which includes it again; take one of the two lines out")
    kind = _LIBRARY if is_library_file(path) else _USER
    level = Level(kind, _depth(kind, above))
    origin = Origin(level, str(path.resolve()), must_be_used=kind != _LIBRARY or above is None)
    symbols: dict[str, Any] = {}
    for statement in _statements(path):
        place = f"{path}:{statement.location.line_num}"
        if isinstance(statement, config_parser.ImportStatement):
            symbols |= _import(statement, place)
            resolver.symbols |= symbols
        elif isinstance(statement, config_parser.IncludeStatement):
            try:
                included = find_gin_file(statement.filename, beside=path.parent)
            except UserError as error:
                raise UserError(f"{place}: {error}") from error
            yield from _file(included, resolver, level, (*chain, path.resolve()))
        elif isinstance(statement, config_parser.BindingStatement):
            yield _binding(statement, resolver, symbols, origin, place)
        else:  # the head of a block `Name:`; its bindings follow
            _resolve(statement.selector, resolver, symbols, place)


def _depth(kind: int, above: Level | None) -> int:
    """A file's depth (see `Level`), from that of the file that includes it."""
    if above is None:
        return 0
    if above.kind != kind:
        return -1
    return above.depth - 1 if kind == _USER else min(above.depth, -1) - 1


def _statements(path: Path) -> Iterator[Any]:
    """gin's statements of a file; what it cannot parse is an error with a place."""
    try:
        yield from _parse(path.read_text(encoding="utf-8"))
    except SyntaxError as error:
        text, what = (error.text or "").strip(), error.msg.strip().splitlines()[0]
        if what.startswith("malformed node"):
            what = "the value is no gin value (a text stands in quotes, a part is written @Name())"
        raise UserError(f"{path}:{error.lineno}: {what}: {text}") from error
    except tokenize.TokenError as error:
        raise UserError(f"{path}: {error.args[0]} (a bracket or a string is not closed)") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _parse(text: str) -> Iterator[Any]:
    """gin's parser with our values for references and macros."""
    from gin import config_parser

    class Delegate(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_configurable_name: str, evaluate: bool) -> Reference:
            *scopes, name = scoped_configurable_name.split("/")
            return Reference(tuple(scopes), name, evaluate)

        def macro(self, macro_name: str) -> Macro:
            return Macro(macro_name)

    yield from config_parser.ConfigParser(text, Delegate())


def _import(statement: Any, place: str) -> Mapping[str, Any]:
    """The name that an import statement gives, with its module; {} for `from __gin__ import dynamic_registration`."""
    if statement.module.startswith("__gin__."):
        return {}
    try:
        module = import_module(statement.module)
        if not statement.is_from and not statement.alias:  # `import a.b` gives the name a
            module = import_module(statement.module.partition(".")[0])
    except Exception as error:  # a user's module can raise anything
        raise UserError(
            f"{place}: `{statement.format()}` failed: {error}; a module of your own must lie in the working directory "
            "or on PYTHONPATH, and t5x_style's short names need no import"
        ) from error
    return {statement.bound_name(): module}


def _resolve(name: str, resolver: Resolver, symbols: Mapping[str, Any], place: str) -> str:
    try:
        return resolver.resolve(name, symbols)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _binding(statement: Any, resolver: Resolver, symbols: Mapping[str, Any], origin: Origin, place: str) -> Binding:
    """A statement as a Binding: names resolved, the parameter checked."""

    def resolved(leaf: Any) -> Any:
        if isinstance(leaf, Reference):
            return Reference(leaf.scopes, _resolve(leaf.name, resolver, symbols, place), leaf.call)
        return REQUIRED if leaf == Macro("REQUIRED") else leaf

    value = replace(statement.value, resolved)
    if not statement.arg_name:
        name = f"{statement.scope}/{statement.selector}" if statement.scope else statement.selector
        return Binding(Key("", "", name), value, origin.level, origin.source, place, origin.must_be_used)
    target = _resolve(statement.selector, resolver, symbols, place)
    known = parameters(resolver.found[target])
    if not known.anything and statement.arg_name not in known.names:
        near = difflib.get_close_matches(statement.arg_name, known.names, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(known.names)}"
        raise UserError(f"{place}: {statement.selector} has no parameter {statement.arg_name!r}; {hint}")
    key = Key(statement.scope, target, statement.arg_name)
    return Binding(key, value, origin.level, origin.source, place, origin.must_be_used)
