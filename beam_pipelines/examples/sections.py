"""Which arguments a docstring describes: numpy, Google and Sphinx sections."""

from __future__ import annotations

import re

NUMPY_TITLES = {"parameters", "other parameters"}
GOOGLE_TITLES = {"args", "arguments", "parameters", "params", "keyword args", "keyword arguments"}
RULE = re.compile(r"\s*[-=~]{3,}\s*$")
GOOGLE_HEADING = re.compile(r"\s*([A-Za-z][A-Za-z ]*):\s*$")
STARRED = r"\\?\*{0,2}[^\W\d]\w*"
# `x`, `x : array_like`, `x, y : float`: numpy puts a space before the colon.
NUMPY_ENTRY = re.compile(rf"({STARRED}(?:\s*,\s*{STARRED})*)\s*(?:\s:.*|:\s.*)?$")
# `x: text`, `x (int): text`
GOOGLE_ENTRY = re.compile(rf"({STARRED})\s*(?:\([^)]*\))?\s*:(?:\s|$)")
SPHINX_ENTRY = re.compile(rf"\s*:(?:param|parameter|arg|argument|keyword)\s+(?:[^:]*\s)?({STARRED})\s*:")


def described_arguments(docstring: str) -> tuple[str, ...]:
    """Names that the docstring's argument sections describe, in order, without stars; () where it has none.

    Example:
      described_arguments("Add.\n\nArgs:\n  x: left.\n  y (int): right,\n    never zero.\n\nReturns:\n  sum")
      == ("x", "y")
    """
    lines = docstring.split("\n")
    found: list[str] = []
    for number, line in enumerate(lines):
        sphinx = SPHINX_ENTRY.match(line)
        if sphinx:
            found.append(sphinx[1])
        elif line.strip().lower() in NUMPY_TITLES and _is_ruled(lines, number):
            found.extend(_entries(lines, number + 2, _indent(line) - 1, NUMPY_ENTRY, ends_at_heading=True))
        elif (heading := GOOGLE_HEADING.match(line)) and heading[1].strip().lower() in GOOGLE_TITLES:
            found.extend(_entries(lines, number + 1, _indent(line), GOOGLE_ENTRY, ends_at_heading=False))
    return tuple(dict.fromkeys(name.lstrip("\\*") for name in found))


def _is_ruled(lines: list[str], number: int) -> bool:
    return number + 1 < len(lines) and RULE.match(lines[number + 1]) is not None


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _entries(
    lines: list[str], start: int, deeper_than: int, entry: re.Pattern[str], ends_at_heading: bool
) -> list[str]:
    """Names of the section's entries: the lines as deep as its first one, until the text is no deeper than its heading."""
    found: list[str] = []
    level: int | None = None
    for number in range(start, len(lines)):
        line = lines[number]
        if not line.strip():
            continue
        indent = _indent(line)
        if indent <= deeper_than or (ends_at_heading and _is_ruled(lines, number)):
            break
        level = indent if level is None else level
        match = entry.match(line.strip()) if indent == level else None
        if match:
            found.extend(part.strip() for part in match[1].split(","))
    return found
