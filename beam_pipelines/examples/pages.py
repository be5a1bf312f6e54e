"""Object pages: what a cleaned documentation page says about one class or function."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.splits import page_key

KINDS = ("class", "function")
IDENTIFIER = re.compile(r"[^\W\d]\w*")
# The page's own list of methods: a heading and a first signature; a docstring's prose about methods has no `def`.
LISTING = re.compile(r"(?:^|\s)Methods\s+(?=(?:[-*•]\s+)?(?:async\s+)?def\s)")
# What a page may render differently from the source: addresses, white space, marks of code and of links.
LOST_IN_CLEANING = re.compile(r"https?://[^\s<>`]+|[\s`<>_]")
# An extractor may keep the heading and lose the list.
BARE_HEADING = re.compile(r"(?:^|\n)[ \t]*Methods\s*$")


@dataclass(frozen=True)
class ObjectPage:
    """A page without its navigation and signature.

    Attributes:
      name: qualified name, `json.decoder.JSONDecoder.decode`.
      key: what decides the split: the name, for a method the name of its class.
      kind: `class` or `function` (methods are functions).
      package: the top-level package.
      arguments: names of a function's arguments, without `self`.
      methods: names of all methods that the class defines, private ones too.
      summary: first line of the docstring, as the page shows it.
      docstring: the docstring as the page shows it, summary included.
      body: what follows the summary in the docstring, white space before it included.
      listing: the page's list of public methods, '' where it has none.
    """

    name: str
    key: str
    kind: str
    package: str
    arguments: tuple[str, ...]
    methods: tuple[str, ...]
    summary: str
    docstring: str
    body: str
    listing: str


def object_page(text: str, metadata: str) -> ObjectPage | str:
    """The object page in a document, or the reason why there is none.

    Args:
      text: the document's cleaned text: breadcrumb, signature, docstring, on class pages the list of methods.
      metadata: the document's JSON metadata; `meta` describes the object.
    """
    if '"object"' not in metadata:
        return "not an object page"
    meta: Mapping[str, Any] = json.loads(metadata).get("meta") or {}
    name, kind, summary = (str(meta.get(field) or "") for field in ("object", "kind", "summary"))
    if not name:
        return "not an object page"
    if kind not in KINDS:
        return f"kind is neither {' nor '.join(KINDS)}"
    if not LOST_IN_CLEANING.sub("", summary):
        return "no docstring"
    # The summary is where the docstring starts; all that stands before it is breadcrumb and signature.
    place = find_summary(summary, text)
    if place is None:
        return "docstring not found in the cleaned text"
    start, end = place
    docstring, listing = _split_listing(text[start:], kind)
    return ObjectPage(
        name=name,
        key=page_key(name, str(meta.get("module") or "")),
        kind=kind,
        package=str(meta.get("package") or ""),
        arguments=tuple(argument for argument in names(meta.get("arguments")) if argument not in ("self", "cls")),
        methods=names(meta.get("methods")),
        summary=" ".join(text[start:end].split()),
        docstring=docstring.strip(),
        body=docstring[end - start :].rstrip(),
        listing=listing.strip(),
    )


def find_summary(summary: str, text: str) -> tuple[int, int] | None:
    """(start, end) of a summary in a text that may render its white space, backticks and links differently.

    Example:
      find_summary("Sum of ``x``.", "def f(x) Sum of  x.") == (9, 19)
    """
    summary = summary.strip()
    start = text.find(summary)
    if start >= 0:  # most of them; compiling a pattern for each page would take most of the run
        return start, start + len(summary)
    gap = f"(?:{LOST_IN_CLEANING.pattern})*"
    found = re.search(gap.join(map(re.escape, filter(None, LOST_IN_CLEANING.split(summary)))), text)
    return found.span() if found else None


def names(value: Any) -> tuple[str, ...]:
    """Identifiers of a list or of a comma- or space-separated string: `names("x, *args /") == ("x", "args")`."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return tuple(dict.fromkeys(IDENTIFIER.findall(text)))


def _split_listing(text: str, kind: str) -> tuple[str, str]:
    """(docstring, list of methods) of what follows the signature."""
    if kind != "class":
        return text, ""
    heading = LISTING.search(text)
    if heading:
        return text[: heading.start()], text[heading.end() :]
    return BARE_HEADING.sub("", text), ""


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, ending with a whole word: `cut("one two", 5) == "one"`."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    space = max(head.rfind(character) for character in " \n\t")
    return head[: space if space > 0 else limit].rstrip()
