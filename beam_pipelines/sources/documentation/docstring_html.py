"""Turns a docstring (Google, NumPy or plain style) into the HTML a documentation site would show."""

from __future__ import annotations

import html
import re

GOOGLE_HEADING = re.compile(r"^([A-Z][A-Za-z ]{2,30}):$")
UNDERLINE = re.compile(r"^\s*([-=~^])\1{2,}\s*$")
BULLET = re.compile(r"^\s*([-*•]|\d+[.)])\s+")
ENTRY = re.compile(r"^(\*{0,2}[A-Za-z_][\w., *]{0,40}(?<! )(?: ?\([^()]*\))?:)\s+(\S.*)$")
CODE = re.compile(r"``([^`]+)``|`([^`\n]+)`")


def docstring_html(docstring: str) -> str:
    """HTML of a cleaned docstring: headings, paragraphs, lists of entries, preformatted examples."""
    parts: list[str] = []
    literal = False  # the paragraph before ended in "::"
    for block in re.split(r"\n\s*\n", docstring.strip("\n")):
        lines = block.splitlines()
        if not block.strip():
            continue
        if len(lines) > 1 and UNDERLINE.match(lines[1]):
            parts.append(f"<h2>{html.escape(lines[0].strip())}</h2>")
            lines = lines[2:]
        elif GOOGLE_HEADING.match(lines[0].strip()):
            parts.append(f"<h2>{html.escape(lines[0].strip().rstrip(':'))}</h2>")
            lines = lines[1:]
        if not lines:
            continue
        indented = all(line.startswith((" ", "\t")) for line in lines if line.strip())
        if (literal and indented) or any(line.lstrip().startswith((">>>", "... ")) for line in lines):
            parts.append(f"<pre>{html.escape(_dedented(lines))}</pre>")
        else:
            parts.append(_paragraph_or_list(lines))
            literal = lines[-1].rstrip().endswith("::")
    return "\n".join(parts)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _dedented(lines: list[str]) -> str:
    least = min((_indent(line) for line in lines if line.strip()), default=0)
    return "\n".join(line[least:].rstrip() for line in lines)


def _inline(text: str) -> str:
    escaped = html.escape(" ".join(text.split()), quote=False)
    return CODE.sub(lambda match: f"<code>{match[1] or match[2]}</code>", escaped)


def _definition(lines: list[str]) -> str:
    """`<dt>` and `<dd>` of an entry: NumPy's `x : int` over deeper lines, or Google's `x: The number.`

    >>> _definition(["x (int): The number.", "  Not 0."])
    '<dt>x (int):</dt><dd>The number. Not 0.</dd>'
    """
    google = ENTRY.match(lines[0].strip())
    term, first = (google[1], [google[2]]) if google else (lines[0], [])
    rest = " ".join([*first, *lines[1:]])
    return f"<dt>{_inline(term)}</dt>" + (f"<dd>{_inline(rest)}</dd>" if rest.strip() else "")


def _paragraph_or_list(lines: list[str]) -> str:
    """A list where lines start with bullets, definitions where deeper lines follow, else one paragraph."""
    least = min(_indent(line) for line in lines)
    deeper = any(_indent(line) > least for line in lines)
    bullets = any(BULLET.match(line) for line in lines)
    definitions = _indent(lines[0]) == least and (deeper or all(ENTRY.match(line.strip()) for line in lines))
    if not (bullets or definitions):
        return f"<p>{_inline(' '.join(lines))}</p>"
    items: list[list[str]] = []
    for line in lines:
        starts: bool = bool(BULLET.match(line)) if bullets else _indent(line) == least
        if starts or not items:
            items.append([BULLET.sub("", line) if bullets else line])
        else:
            items[-1].append(line)
    if bullets:
        entries = "\n".join(f"<li>{_inline(' '.join(item))}</li>" for item in items)
        return f"<div>\n<ul>\n{entries}\n</ul>\n</div>"  # main-content extraction drops a list right below <article>
    return "<dl>\n" + "\n".join(_definition(item) for item in items) + "\n</dl>"
