"""Our docstrings are plain text under Google's headings; this makes Markdown of them that shows what was written.

In plain text an indented block is code, `<dt>` is four characters, and `[B, L]` is a shape, not a link.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection

NAMED = ("Args:", "Attributes:", "Raises:")  # sections of `name: text`
SECTIONS = (*NAMED, "Returns:", "Yields:")
_BACKTICKS = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LIST = re.compile(r"([-*]|\d+\.) ")
_NAMES = re.compile(r"(\w+(?:, \w+)*): ")


def markdown(text: str, names: Collection[str] = ()) -> str:
    """The Markdown of a docstring.

    Args:
      text: the docstring without its common indentation.
      names: parameters or attributes, which may share a line of their section: `rows: how many. width: of each.`

    Example:
      markdown("Rows [B].\\n\\nExample:\\n  f(1)") == "Rows \\\\[B].\\n\\nExample:\\n\\n```python\\nf(1)\\n```"
    """
    made = []
    for kind, block in _blocks(text.splitlines()):
        if kind == "section":
            entries = _entries(block[1:], names) if block[0] in NAMED else [escaped("\n".join(block[1:]))]
            made.append("\n".join([block[0], *entries]))
        elif kind in ("code", "doctest"):
            made.append(_fenced(block))
        else:  # the second line of a sentence may be indented: no code in plain text
            made.append(escaped("\n".join(block if kind == "list" else map(str.strip, block))))
    return "\n\n".join(made)


def _blocks(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Neighbouring lines of one kind, without the empty lines around them."""
    blocks: list[tuple[str, list[str]]] = []
    kind = "text"
    for before, line in zip(["", *lines], lines, strict=False):
        last, kind = kind, _kind(line, before, kind)
        if not blocks or kind != last or line in SECTIONS:
            blocks.append((kind, []))
        blocks[-1][1].append(line)
    stripped = [(kind, "\n".join(block).strip("\n").split("\n")) for kind, block in blocks]
    return [(kind, block) for kind, block in stripped if any(block)]


def _kind(line: str, before: str, last: str) -> str:
    """What a line belongs to, given the line before it and that line's kind."""
    if not line:
        return "text" if last == "doctest" else last
    if line.startswith(" "):
        if last in ("section", "list", "code"):
            return last
        return "code" if not before or before.endswith(":") else last
    if line in SECTIONS:
        return "section"
    if line.startswith(">>>") or (last == "doctest" and before):
        return "doctest"
    if line.startswith("{"):  # a JSON file's layout
        return "code"
    return "list" if _LIST.match(line) or (last == "list" and before) else "text"


def _fenced(block: list[str]) -> str:
    code = textwrap.dedent("\n".join(block))
    if code.startswith(">>>"):
        language = "pycon"
    else:
        try:
            ast.parse(code)
            language = "python"
        except SyntaxError:
            language = "text"
    return f"```{language}\n{code}\n```"


def _entries(lines: list[str], names: Collection[str]) -> list[str]:
    """A section's entries, one a name: `a, b: text` and `a: text. b: text` become two each."""
    indent = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    entries: list[str] = []
    for line in lines:
        head, colon, _ = line.strip().partition(": ")
        if entries and (not line or line[indent] == " "):
            entries[-1] += f"\n{line}"
        elif entries and (not colon or ". " in head):  # goes on without indentation
            entries[-1] += f"\n{' ' * indent}{line}"
        elif line:
            entries.append(line.strip())
    if names:
        shared = re.compile(rf"(?<=[.;])\s+(?=(?:{'|'.join(map(re.escape, names))})(?:, \w+)*: )")
        entries = [part for entry in entries for part in shared.split(entry)]
    made = []
    for entry in entries:
        head = _NAMES.match(entry)
        if head is None:
            made.append(" " * indent + entry)
        else:
            text = escaped(entry[head.end() :])
            made += [f"{' ' * indent}{name}: {text}" for name in head[1].split(", ")]
    return made


def escaped(text: str) -> str:
    """Text whose characters Markdown leaves alone; what stands in backticks is code already."""
    made, place = "", 0
    for code in _BACKTICKS.finditer(text):
        made += _escaped(text[place : code.start()]) + code[0]
        place = code.end()
    return made + _escaped(text[place:])


def _escaped(text: str) -> str:
    text = re.sub(r"\[|(?<=\S)\*|\*(?=\S)", r"\\\g<0>", text.replace("<", "&lt;"))
    return re.sub(r"(?<!\w)_+(?=\w)", lambda found: found[0].replace("_", r"\_"), text)
