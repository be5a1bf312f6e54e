"""gin at the edge: files and overrides in, one frozen dataclass out, every mistake found before expensive work.

The only module that imports gin, and only when called. A run is described by one root dataclass; all that gin
configures is built eagerly under it. So an unknown name, an unset macro, a wrong type, and a binding or a scope that
nothing consumed are all errors at this point (gin itself finds only the first two).
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import threading
import tokenize
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from t5x_style.errors import UserError

Root = TypeVar("Root")
_GIN_STATE = threading.RLock()  # gin's configuration is global to the process


class Loaded(NamedTuple):
    """What `load` returns: the root instance, the bindings that were used, and all bindings as parsed."""

    root: Any
    operative: str
    full: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--gin_file` (repeatable, in order); overrides are given as `--gin.NAME=VALUE` (see `parse_arguments`)."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file, repeatable; found from the working directory or among the files that come with t5x_style",
    )
    parser.epilog = (parser.epilog or "") + " Overrides: --gin.MACRO=VALUE or --gin.module.Class.parameter=VALUE."


def parse_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses `argv`; returns the namespace and the gin bindings that stood in it as `--gin.NAME=VALUE`.

    Raises:
      UserError: an argument that no one knows, or a `--gin.` without a value.
    """
    bindings, rest = [], []
    pending: str | None = None
    for argument in argv:
        if pending is not None:
            bindings.append(f"{pending} = {argument}")
            pending = None
        elif argument.startswith("--gin."):
            name, equals, value = argument.removeprefix("--gin.").partition("=")
            if equals:
                bindings.append(f"{name} = {value}")
            else:
                pending = name
        else:
            rest.append(argument)
    if pending is not None:
        raise UserError(f"--gin.{pending} has no value; write --gin.{pending}=VALUE (strings in quotes: \"'text'\")")
    namespace, unknown = parser.parse_known_args(rest)
    if unknown:
        raise UserError(f"unknown argument {unknown[0]!r}; `{parser.prog} --help` lists the known ones")
    return namespace, bindings


def gin_folders() -> list[Path]:
    """The folders that hold the gin files of a checkout and of an installed package, those that exist."""
    package = Path(__file__).parent
    return [folder for folder in (package.parent / "gin", package / "gin_files") if folder.is_dir()]


def find_gin_file(name: str) -> Path:
    """Finds a gin file: as given, or under the gin folder, with or without the leading `gin/`.

    Raises:
      UserError: there is none; names close to it are listed.
    """
    candidates = [Path(name)]
    for folder in gin_folders():
        candidates += [folder / name, folder / name.removeprefix("gin/")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    known = [str(path.relative_to(folder)) for folder in gin_folders() for path in sorted(folder.rglob("*.gin"))]
    near = difflib.get_close_matches(name.removeprefix("gin/"), known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"files that come with t5x_style: {', '.join(known)}"
    raise UserError(f"gin file {name!r} does not exist; {hint}")


def load(root: type[Root], gin_files: Sequence[str], bindings: Sequence[str] = ()) -> Loaded:
    """Parses gin files and bindings and builds `root` from them.

    Args:
      root: the dataclass that the files configure; it and all under it are built here, at once.
      gin_files: names for `find_gin_file`, parsed in order.
      bindings: `NAME = VALUE` overrides, parsed last.

    Returns:
      (the instance of `root`, the operative configuration, the full configuration), the last two as gin text.

    Raises:
      UserError: anything wrong with the configuration, in one line with file and line number where gin knows them.
    """
    import gin

    paths = [find_gin_file(name) for name in gin_files]
    with _GIN_STATE:
        gin.clear_config()
        _find_includes()
        try:
            for path in paths:
                _parse_file(path)
            for binding in bindings:
                _parse_binding(binding)
            _check_macros()
            if problems := list(_wrong_types()):
                raise UserError("; ".join(problems))
            gin.finalize()
            instance = gin.get_configurable(root)()
        except UserError as error:
            raise UserError(_without_gins_place(error)) from error
        except Exception as error:
            raise UserError(_one_line(error, root)) from error
        finally:
            gin.config._set_config_is_locked(False)
        if problems := list(check_types(instance, root.__name__)):
            raise UserError("; ".join(problems))
        if unused := _unconsumed():
            raise UserError(
                f"nothing uses the binding{'s' if len(unused) > 1 else ''} {', '.join(unused)}; "
                "look for a misspelt name or scope, or remove it"
            )
        return Loaded(instance, gin.operative_config_str(), gin.config_str())


def _find_includes() -> None:
    """Makes `include` find what `find_gin_file` finds. First in the list: gin's own readers log an error a try."""
    import gin

    def exists(name: str) -> bool:
        try:
            return bool(find_gin_file(name))
        except UserError:
            return False

    reader = (lambda name: open(find_gin_file(name), encoding="utf-8"), exists)  # noqa: SIM115 (gin closes it)
    if not getattr(gin.config, "_t5x_style_includes", False):
        gin.config._FILE_READERS.insert(0, reader)
        gin.config._t5x_style_includes = True


def _parse_file(path: Path) -> None:
    """Parses one file; an unfinished statement, which gin reports without a place, is given one."""
    import gin

    try:
        gin.parse_config_file(str(path))
    except tokenize.TokenError as error:
        raise UserError(f"{path}: {error.args[0]} (a bracket or a string is not closed)") from error


def _parse_binding(binding: str) -> None:
    """Parses one command-line override and names it in the error."""
    import gin

    try:
        gin.parse_config(binding)
    except (SyntaxError, NameError, ValueError, AttributeError) as error:
        name, _, value = binding.partition(" = ")
        if isinstance(error, SyntaxError):
            text = f"--gin.{name}={value}: {value!r} is no gin value; strings need quotes: --gin.{name}=\"'{value}'\""
            raise UserError(text) from error
        raise UserError(f"--gin.{name}={value}: {_first_line(error)}") from error


def _check_macros() -> None:
    """Raises UserError for macros that are used but never set, or set to %gin.REQUIRED."""
    from gin import config as gin_config

    macro = gin_config.get_configurable(gin_config.macro)
    known = {scope for scope, selector in gin_config._CONFIG if selector == "gin.macro"}
    missing = set()
    for reference in gin_config.iterate_references(gin_config._CONFIG, to=macro):
        name = "/".join(reference.scopes)
        if (name, "gin.macro") not in gin_config._CONFIG:
            missing.add(name)
    for scope in known:
        value = gin_config._CONFIG[(scope, "gin.macro")].get("value")
        if isinstance(value, gin_config.ConfigurableReference) and value.selector == "gin.constant":
            missing.add(scope)
    if missing:
        names = sorted(missing)
        near = [match for name in names for match in difflib.get_close_matches(name, known - missing, n=1, cutoff=0.6)]
        hint = f" (set are similar names: {', '.join(near)})" if near else ""
        raise UserError(
            f"macro {', '.join(names)} is not set; pass --gin.{names[0]}=VALUE or set it in a gin file{hint}"
        )


def _wrong_types() -> Iterator[str]:
    """One message for every bound value that does not fit the dataclass field it is bound to.

    Checked before anything is built: a constructor that compares a text with a number would say less.
    """
    from gin import config as gin_config

    def literal(value: Any) -> Any:
        if not isinstance(value, gin_config.ConfigurableReference):
            return value
        if value.selector != "gin.macro":
            return value
        return literal(gin_config._CONFIG[("/".join(value.scopes), "gin.macro")]["value"])

    for (_, selector), parameters in gin_config._CONFIG.items():
        wrapped: Any = gin_config._REGISTRY[selector].wrapped
        if not (isinstance(wrapped, type) and dataclasses.is_dataclass(wrapped)):
            continue
        hints = typing.get_type_hints(wrapped)
        for name, bound in parameters.items():
            value = literal(bound)
            if _holds_reference(value) or _fits(value, hints.get(name, Any)):
                continue
            yield f"{wrapped.__name__}.{name} is {value!r}, must be {_name(hints[name])}"


def _holds_reference(value: Any) -> bool:
    from gin import config as gin_config

    return any(
        isinstance(item, gin_config.ConfigurableReference) for item in gin_config._iterate_flattened_values(value)
    )


def _unconsumed() -> list[str]:
    """Bindings that no call used, as the user would write them."""
    from gin import config as gin_config

    def consumed(scope: str, selector: str, name: str) -> bool:
        wanted = scope.split("/") if scope else []
        for used_scope, used_selector in gin_config._OPERATIVE_CONFIG:
            if used_selector != selector or name not in gin_config._OPERATIVE_CONFIG[(used_scope, used_selector)]:
                continue
            if (used_scope.split("/") if used_scope else [])[: len(wanted)] == wanted:
                return True
        return False

    unused = []
    for (scope, selector), parameters in gin_config._CONFIG.items():
        for name in parameters:
            if not consumed(scope, selector, name):
                if selector == "gin.macro":
                    unused.append(scope)
                else:
                    short = gin_config._REGISTRY.minimal_selector(selector)
                    unused.append(f"{scope}{'/' if scope else ''}{short}.{name}")
    return sorted(unused)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _without_gins_place(error: UserError) -> str:
    """Our own message; of what gin adds about the call only a name that the message lacks."""
    text, _, call = str(error).partition("\n  In call to configurable '")
    name = call.partition("'")[0]
    return text if name in text else f"{text} (in {name})"


def _one_line(error: BaseException, root: type) -> str:
    """gin's message as one line: what, then where."""
    text = str(error).strip()
    if "Could not find" in text and "Gin registry" in text:
        return f"the gin files configure no {root.__name__}; start from one of the files in gin/"
    place = re.search(r'In (file "[^"]*", line \d+|bindings string line \d+)', text)
    call = re.search(r"In call to configurable '([^']*)'", text)
    missing = re.search(r"No values supplied by Gin or caller for arguments: \[(.*?)\]", text)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    if missing and call:
        names = missing.group(1).replace("'", "")
        return f"{call.group(1)}: no value for {names}; bind {call.group(1)}.{names.split(',')[0]} in a gin file"
    where = f" ({place.group(1)})" if place else f" (in {call.group(1)})" if call else ""
    return f"{_first_line(error)}{where}"


def check_types(value: Any, where: str) -> Iterator[str]:
    """Yields one message for every field of a dataclass tree whose value does not fit its annotation.

    Checks what gin files get wrong: plain scalars, literals, optional and tuple fields, and nested dataclasses.
    An int is taken where a float is meant; a list where a tuple is meant.
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
        if not _fits(item, hint):
            yield f"{where}.{field.name} is {item!r}, must be {_name(hint)}"
        for index, inner in enumerate(item if isinstance(item, (list, tuple)) else [item]):
            suffix = f"[{index}]" if isinstance(item, (list, tuple)) else ""
            yield from check_types(inner, f"{where}.{field.name}{suffix}")


def _name(hint: Any) -> str:
    if isinstance(hint, type) and not typing.get_args(hint):
        return hint.__name__
    return str(hint).replace("typing.", "").replace("collections.abc.Sequence", "list")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, list, Sequence):
        if not isinstance(value, (list, tuple)):
            return False
        if arguments and (origin is not tuple or arguments[-1] is Ellipsis):
            return all(_fits(item, arguments[0]) for item in value)
        return True
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return True
