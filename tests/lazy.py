"""Modules imported at their first use, so that collecting the tests loads no TensorFlow: 7 seconds a process."""

import importlib
from typing import Any


class Lazy:
    """Stands for a module until an attribute of it is read.

    Example: seqio = Lazy("seqio"); in a test, seqio.TaskRegistry imports it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # pytest asks everything in a test module for some of these
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)
