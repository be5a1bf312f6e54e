"""Which arguments a docstring describes: numpy, Google and Sphinx sections as a documentation page shows them."""

from __future__ import annotations

import re

ARGUMENT_TITLES = frozenset(
    {"parameters", "other parameters", "args", "arguments", "params", "keyword args", "keyword arguments"}
)
# Any other short title on a line of its own ends the section.
TITLE = re.compile(r"([A-Z][A-Za-z]*(?: [A-Za-z]+){0,3}):?$")
RULE = re.compile(r"[-=~^]{3,}$")
BULLET = re.compile(r"^(?:[-*•]|\d+[.)])\s+(?!\*)")
NAME = r"[`\\*]*[^\W\d]\w*`*"
# `x : float ...`, `x, y : float`, `x: ...`, `x (int): ...`, `x -- ...`
ENTRY = re.compile(rf"({NAME}(?:\s*,\s*{NAME})*)\s*(?:\([^)]*\)\s*)?(?::|--)(?:\s|$)")
SPHINX_ENTRY = re.compile(rf":(?:param|parameter|arg|argument|keyword)\s+(?:[^:\n]*\s)?({NAME})\s*:")


def described_arguments(docstring: str) -> tuple[str, ...]:
    """Names that the docstring's argument sections describe, in order, without stars; () where it has none.

    One line is one entry; lines that do not look like one (further paragraphs of a description) are passed over, so
    a caller that knows the signature should check the names against it.

    Example:
      described_arguments("Add.\n\nArgs\n\n  • x: left.\n  • y (int): right, never zero.\n\nReturns\n\nz: sum")
      == ("x", "y")
    """
    found: list[str] = []
    inside = False
    for line in map(str.strip, docstring.split("\n")):
        if not line or RULE.match(line):
            continue
        title = TITLE.match(line)
        if title and (line.endswith(":") or title[1].lower() in ARGUMENT_TITLES or inside):
            inside = title[1].lower() in ARGUMENT_TITLES
            continue
        found.extend(SPHINX_ENTRY.findall(line))
        entry = ENTRY.match(BULLET.sub("", line, count=1)) if inside else None
        if entry:
            found.extend(entry[1].split(","))
    return tuple(dict.fromkeys(name.strip(" `\\*\t") for name in found))
