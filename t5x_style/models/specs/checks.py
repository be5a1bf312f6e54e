"""How configurations check themselves: one line that names the field and what to give."""

from __future__ import annotations

from t5x_style.errors import UserError


def check(condition: bool, message: str) -> None:
    """Raises UserError with `message` unless the condition holds."""
    if not condition:
        raise UserError(message)


def choice(value: str, choices: tuple[str, ...], what: str) -> None:
    """Raises UserError unless `value` is one of `choices`; `what` names the field."""
    check(value in choices, f"{what} is {value!r}; choose one of {', '.join(choices)}")
