"""Errors meant for people: one line that says what is wrong, where, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from t5x_style import logs


class UserError(Exception):
    """Bad input: the message is one line naming what, where and the remedy. Entry points exit with code 2."""


def run_main(function: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Sets logging up, runs an entry point, and turns its outcome into an exit code.

    Args:
      function: takes the arguments after the program name, returns an exit code or None for 0.
      argv: the arguments; None means those of the process.

    Returns:
      The function's own code; 2 for a UserError (printed as one `error: ...` line); 130 after Ctrl-C.
    """
    logs.configure()
    try:
        return function(sys.argv[1:] if argv is None else argv) or 0
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except BaseException as error:
        if not _interrupted(error):
            raise
        sys.stderr.write("interrupted: run the same command again to continue\n")
        return 130


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is the cause: a native module that is interrupted while it is imported raises ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
