"""Exceptions of other people's code as one line: which Task, which step, and the end of the cause."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from t5x_style.errors import UserError

_EXCEPTION = re.compile(r"(?:.*: )?((?:[A-Za-z_][\w.]*\.)?[A-Za-z_]*(?:Error|Exception|Exit|Interrupt|Iteration)\b.*)")
_GRAPH = "[[{{"  # where TensorFlow begins to say which node of its graph failed
_LONGEST = 300
_LONGEST_WHOLE = 400


def reason(error: BaseException) -> str:
    """The end of an error's cause: of the exception inside TensorFlow's or AutoGraph's texts, else its own last line.

    Example: a step that raises ValueError("cannot read nine") inside a map has a text of 20 lines, the last of them
    "ValueError: cannot read nine", which is returned.
    """
    text = str(error).split(_GRAPH, 1)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = [match.group(1) for line in lines if (match := _EXCEPTION.fullmatch(line))]
    own = type(error).__name__
    if found and len(lines) > 1:
        last = lines.index(next(line for line in reversed(lines) if _EXCEPTION.fullmatch(line)))
        # A message of several lines ends behind the name of its exception.
        line = " ".join([found[-1], *(lines[last + 1 :] if lines[last + 1 :] else [])])
    else:
        line = lines[-1] if lines else ""
        line = re.sub(r"^\{\{function_node [^}]*\}\} ", "", line)
        line = line if _EXCEPTION.match(line) and line.startswith(own) else f"{own}: {line}" if line else own
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"...{line[-_LONGEST:]}"


def whole_reason(error: BaseException) -> str:
    """An error's whole text as one line; of a long one the beginning and the end.

    >>> whole_reason(ValueError("no vocabulary\\n  at /data"))
    'ValueError: no vocabulary at /data'
    """
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    half = _LONGEST_WHOLE // 2 - 3
    return line if len(line) <= _LONGEST_WHOLE else f"{line[:half]} ... {line[-half:]}"


class StepFailedError(UserError):
    """Other people's code raised an exception."""


@contextlib.contextmanager
def told(where: str | Callable[[], str], remedy: str) -> Iterator[None]:
    """Whatever the block raises becomes a StepFailedError "`where` (cause); `remedy`"; UserErrors stay.

    Args:
      where: what the message begins with, or what finds it out once there is something to tell.
      remedy: what it ends with.

    Example: with told("Task 'qa': step 'render' cannot be built", "mend it"): step(dataset)
      -> "Task 'qa': step 'render' cannot be built (KeyError: 'question'); mend it".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = where if isinstance(where, str) else where()
        raise StepFailedError(f"{place} ({reason(error)}); {remedy}") from error


def mend(task: str) -> str:
    """The remedy for a Task that fails."""
    return f"mend it; {without(task)}"


def without(task: str) -> str:
    """How the other Tasks of a command are cached meanwhile."""
    return f"--skip {task} leaves this Task out and caches the others"


@contextlib.contextmanager
def among_others(task: str, count: int) -> Iterator[None]:
    """A UserError about one Task of several (`count`) says how to leave it out, where it does not say so yet."""
    try:
        yield
    except UserError as error:
        if count < 2:
            raise
        raise UserError(or_skip(str(error), task, count)) from error


def or_skip(message: str, task: str, count: int) -> str:
    """The message, with `without` behind it where there are other Tasks."""
    return message if count < 2 or "--skip " in message else f"{message}; or {without(task)}"
