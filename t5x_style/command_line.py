"""The parser of every entry point: its help names the command as it was called, long options take `-` for `_`."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

_CALLED_AS: ContextVar[tuple[str, str]] = ContextVar("_CALLED_AS", default=("", ""))  # (module, what was typed for it)


def program_name(module: str) -> str:
    """What a user types to run a module. Example: "t5x_style train" under `called_as`, "python -m t5x_style.train"."""
    called, name = _CALLED_AS.get()
    return name if called == module else f"python -m {module}"


@contextlib.contextmanager
def called_as(module: str, name: str) -> Iterator[None]:
    """Within the block, help and errors of this module's parser call it `name`."""
    token = _CALLED_AS.set((module, name))
    try:
        yield
    finally:
        _CALLED_AS.reset(token)


class Parser(argparse.ArgumentParser):
    """Takes --max-new-tokens for an option that is defined as --max_new_tokens; values and unknown options stay."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse has it; all its other ways to parse come through here, those of sub-commands too."""
        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        return super().parse_known_args([*map(self._defined, given[:end]), *given[end:]], namespace)

    def _defined(self, argument: str) -> str:
        """The argument with its option spelt as defined. Example: "--top-k=5" -> "--top_k=5"."""
        name, equals, value = argument.partition("=")
        spelt = f"--{name[2:].replace('-', '_')}"
        known = self._option_string_actions
        return f"{spelt}{equals}{value}" if name.startswith("--") and name not in known and spelt in known else argument


def parser(module: str, documentation: str | None, **settings: Any) -> Parser:
    """A parser for an entry point.

    Args:
      module: as after `python -m`.
      documentation: the module's; where it says `python -m MODULE`, help says how the command was called.
      settings: of argparse.ArgumentParser.
    """
    name = program_name(module)
    description = (documentation or "").replace(f"python -m {module}", name)
    raw = argparse.RawDescriptionHelpFormatter
    return Parser(prog=name, description=description, formatter_class=raw, **settings)
