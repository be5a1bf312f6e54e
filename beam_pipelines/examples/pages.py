"""Object pages: what a cleaned documentation page says about one class or function."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("class", "function")
METHODS_HEADING = re.compile(r"^[ \t#*-]*(?:public )?methods:?[ \t*]*$", re.IGNORECASE | re.MULTILINE)
RULE = re.compile(r"\s*[-=~]{3,}\s*$")


@dataclass(frozen=True)
class ObjectPage:
    """A page without its navigation and signature.

    Attributes:
      name: qualified name, `json.decoder.JSONDecoder`.
      kind: `class` or `function`.
      package: the package or library that the object is documented in.
      arguments: names of the signature's arguments, stars and `self` left out.
      methods: names of the methods that the class page lists.
      summary: first line of the docstring.
      docstring: the docstring as the cleaned page shows it, summary included.
      listing: what the page says about the methods, '' where it lists none.
    """

    name: str
    kind: str
    package: str
    arguments: tuple[str, ...]
    methods: tuple[str, ...]
    summary: str
    docstring: str
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
    if not summary.strip():
        return "no docstring"
    # The summary is where the docstring starts; all that stands before it is breadcrumb and signature.
    start = re.search(r"\s+".join(map(re.escape, summary.split())), text)
    if start is None:
        return "docstring not found in the cleaned text"
    methods = names(meta.get("methods"))
    docstring, listing = _split_listing(text[start.start() :], methods)
    return ObjectPage(
        name=name,
        kind=kind,
        package=str(meta.get("package") or ""),
        arguments=tuple(argument for argument in names(meta.get("arguments")) if argument not in ("self", "cls")),
        methods=methods,
        summary=" ".join(summary.split()),
        docstring=docstring.strip(),
        listing=listing.strip(),
    )


def names(value: Any) -> tuple[str, ...]:
    """Identifiers of a list or of a comma- or space-separated string: `names("x, *args /") == ("x", "args")`."""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
    return tuple(dict.fromkeys(re.findall(r"[^\W\d]\w*", text)))


def _split_listing(text: str, methods: tuple[str, ...]) -> tuple[str, str]:
    """(docstring, list of methods): the list stands under the last heading "Methods" that is not ruled off.

    A ruled heading is a section of the docstring itself, in numpy's style.
    """
    if not methods:
        return text, ""
    for heading in reversed(list(METHODS_HEADING.finditer(text))):
        listing = text[heading.end() :].lstrip("\n")
        if not RULE.match(listing.split("\n", 1)[0]):
            return text[: heading.start()], listing
    return text, ""


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of `text`, ending with a whole word: `cut("one two", 5) == "one"`."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = text[: limit + 1]
    space = max(head.rfind(character) for character in " \n\t")
    return head[: space if space > 0 else limit].rstrip()
