"""Numbers that a user gives to a decoder: one line that names the option and what to give."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from t5x_style.errors import UserError

_WHOLE = (int, np.integer)
_REAL = (int, float, np.integer, np.floating)


def whole_number(value: Any, what: str, minimum: int, maximum: int | None = None) -> None:
    """Raises UserError unless `value` is a whole number within the limits; True and 2.0 are none."""
    fits = type(value) is not bool and isinstance(value, _WHOLE)
    if not fits or value < minimum or (maximum is not None and value > maximum):
        limits = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise UserError(f"{what} is {value!r}; give a whole number {limits}")


def real(value: Any, what: str, give: str, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raises UserError unless `value` is a finite number from `low` (excluded with `open_low`) to `high`."""
    fits = type(value) is not bool and isinstance(value, _REAL) and math.isfinite(value)
    if not fits or not low <= value <= high or (open_low and value == low):
        raise UserError(f"{what} is {value!r}; give {give}")
