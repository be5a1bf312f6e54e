"""HTML from plain values. Every text that comes in is escaped; only what these functions return is markup."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


class Cell(NamedTuple):
    """A table cell: its text and whether it stands out."""

    text: object
    strong: bool = False


def escape(value: object) -> Markup:
    """The value as HTML text; Markup passes unchanged, characters that no XML allows become U+FFFD."""
    if isinstance(value, Markup):
        return value
    text = "".join(c if c in "\t\n\r" or c >= " " else "\ufffd" for c in str(value))
    return Markup(html.escape(text.encode("utf-8", "replace").decode("utf-8"), quote=True))


def element(name: str, *children: object, **attributes: str) -> Markup:
    """<name attributes>children</name>; `class_` is written `class`."""
    written = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """The parts one after the other."""
    return Markup("\n".join(map(escape, parts)))


def paragraph(*children: object) -> Markup:
    """A paragraph."""
    return element("p", *children)


def note(*children: object) -> Markup:
    """A small remark below a plot or a table."""
    return element("p", *children, class_="note")


def missing(what: str) -> Markup:
    """Says that a part of the report has nothing to show, and why."""
    return element("p", what, class_="missing")


def problem(what: str) -> Markup:
    """Says that something does not add up."""
    return element("p", what, class_="problem")


def card(value: object, label: str, detail: object = "") -> Markup:
    """A key figure."""
    return element(
        "div",
        element("div", value, class_="value"),
        element("div", label, class_="label"),
        element("div", detail, class_="detail"),
        class_="card",
    )


def table(header: Sequence[object], rows: Iterable[Sequence[object]], text_columns: int = 1) -> Markup:
    """A table; the first `text_columns` columns are text, the others numbers. A Cell can stand out."""

    def cell(name: str, index: int, value: object) -> Markup:
        strong = isinstance(value, Cell) and value.strong
        text = value.text if isinstance(value, Cell) else value
        kind = "text" if index < text_columns else "number"
        return element(name, element("strong", text) if strong else text, class_=kind)

    head = element("tr", *(cell("th", index, value) for index, value in enumerate(header)))
    body = [element("tr", *(cell("td", index, value) for index, value in enumerate(row))) for row in rows]
    return element(
        "div",
        element("table", element("thead", head), element("tbody", *body)),
        class_="scroll narrow" if len(header) == 2 else "scroll",
    )


def count(value: float) -> str:
    """Whole numbers with separators: count(1234567) == "1,234,567"."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Large numbers for cards: short(1234567) == "1.23 M", short(950) == "950"."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g} {unit}"
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """A share as 12.3 %; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """duration(75.4) == "1 min 15 s", duration(3.21) == "3.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
