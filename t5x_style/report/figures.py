"""Plots as images inside the page: matplotlib without a display, one style, colours that colour-blind people tell
apart (Okabe and Ito 2008)."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import re
from collections.abc import Iterator
from typing import Any

from t5x_style.report.markup import Markup

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, INK = "#8A8A8A", "#222222"
MODELS = (SKY, BLUE, GREEN, PURPLE)  # first model pale, second strong: base and tuned

_STYLE = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


@contextlib.contextmanager
def figure(rows: int = 1, columns: int = 1, height: float = 3.2, **options: Any) -> Iterator[tuple[Any, Any]]:
    """A figure of the page's width (10 inches) and its axes; closed afterwards."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        made = Figure(figsize=(10, height), layout="constrained")
        FigureCanvasAgg(made)
        yield made, made.subplots(rows, columns, **options)


def image(made: Any, alternative: str) -> Markup:
    """The figure as inline SVG without links or scripts; `alternative` says in words what it shows."""
    import matplotlib

    buffer = io.StringIO()
    # Marker and clip ids come from this salt: two figures of a page must not share them.
    salt = hashlib.blake2b(alternative.encode("utf-8"), digest_size=6).hexdigest()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        made.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)  # HTML knows both name spaces
    label = html.escape(alternative, quote=True)
    return Markup(f'<figure>{text.replace("<svg", f"""<svg role="img" aria-label="{label}" """, 1)}</figure>')


def plain_text(text: object, limit: int = 40) -> str:
    """Text for a plot: no mathematics ($), no line breaks, not endless."""
    cleaned = " ".join(str(text).split()).replace("$", r"\$")
    return cleaned if len(cleaned) <= limit else cleaned[: limit - 1] + "…"
