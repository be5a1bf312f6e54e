"""The command line's part of gin: `--gin_file=FILE` and `--gin.NAME=VALUE`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from t5x_style.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--gin_file` (repeatable); overrides are given as `--gin.NAME=VALUE` (see `parse_arguments`)."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file, repeatable; found from the working directory or among the files that come with t5x_style",
    )
    parser.epilog = (parser.epilog or "") + " Overrides: --gin.MACRO=VALUE or --gin.Class.parameter=VALUE."


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
