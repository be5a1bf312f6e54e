"""gin's own part: it makes the root from the bindings that hold, every class and function by its full name."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from t5x_style.config.resolve import full_name
from t5x_style.errors import UserError

_GIN = threading.RLock()  # gin's configuration is global to the process
_REGISTERED: dict[str, Any] = {}


def build(root: type, targets: Mapping[str, Any], program: str) -> Any:
    """Calls `root` with what `program` binds.

    Args:
      targets: full name -> class or function, of all that the program names.
      program: gin text with full names only (see text.program).

    Raises:
      UserError: a constructor refuses its values, in its own words.
    """
    import gin

    with _GIN:
        gin.clear_config()
        with _registering():
            for name, target in {**targets, full_name(root): root}.items():
                if _REGISTERED.get(name) is not target:
                    gin.external_configurable(target, name=target.__qualname__, module=target.__module__)
                    _REGISTERED[name] = target
        try:
            gin.parse_config(program)
            return gin.get_configurable(root)()
        except UserError as error:
            raise UserError(_without_gins_place(error)) from error
        except Exception as error:
            raise UserError(_one_line(error)) from error


@contextmanager
def _registering() -> Iterator[None]:
    """Lets a class that was made anew, as in a notebook, take the place of the old one of its name."""
    import gin

    gin.enter_interactive_mode()
    try:
        yield
    finally:
        gin.exit_interactive_mode()


def _without_gins_place(error: UserError) -> str:
    """Our own message; of what gin adds about the call only a name that the message lacks."""
    text, _, call = str(error).partition("\n  In call to configurable '")
    name = call.partition("'")[0].rpartition(".")[2]
    return text if name in text else f"{text} (in {name})"


def _one_line(error: BaseException) -> str:
    """Another exception's first line, and the innermost call that raised it."""
    text = str(error).strip()
    first = text.splitlines()[0] if text else type(error).__name__
    call = re.search(r"In call to configurable '([^']*)'", text)
    return f"{first} (in {call.group(1)})" if call else first
