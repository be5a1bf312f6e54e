"""Griffe extension: the API pages show docstrings as they were written."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from plain_text import markdown


class PlainText(griffe.Extension):
    """Makes Markdown of every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:  # noqa: ARG002
        """Called once for each object that was read, with its members."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, names_of(obj))


def names_of(obj: griffe.Object) -> list[str]:
    """The parameters of a function, the parameters and attributes of a class."""
    if isinstance(obj, griffe.Function):
        return [parameter.name.lstrip("*") for parameter in obj.parameters]
    if isinstance(obj, griffe.Class):
        return sorted({*obj.attributes, *(parameter.name for parameter in obj.parameters)})
    return []
