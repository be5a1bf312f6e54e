"""Prompt templates: format strings with named fields, an options block, and who gets which template."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.splits import stable_hash

OPTIONS_FIELD = "options_"


def format_options(options: Sequence[str]) -> str:
    r"""The options block of Flan (Wei et al. 2021): `format_options(["a", "b"]) == "OPTIONS:\n- a\n- b"`."""
    return "OPTIONS:\n- " + "\n- ".join(options)


@dataclass(frozen=True)
class Template:
    """One way to put an example into words.

    Attributes:
      name: short and unique in its cluster; reports name the template by it.
      inputs: the prompt, with fields as `{name}`; `{options_}` stands for the options block.
      targets: the answer, in the same notation.

    Example:
      Template("ask", "{docstring}\n\nWhich package?\n\n{options_}").render(
          {"docstring": "Sum of x.", "answer": "numpy"}, ["jax", "numpy"]
      ) == ("Sum of x.\n\nWhich package?\n\nOPTIONS:\n- jax\n- numpy", "numpy")

    Raises:
      ValueError: at construction, a field that is not a plain name.
    """

    name: str
    inputs: str
    targets: str = "{answer}"

    def __post_init__(self) -> None:
        for text in (self.inputs, self.targets):
            for _, field, spec, conversion in string.Formatter().parse(text):
                if field is not None and (not field.isidentifier() or spec or conversion):
                    raise ValueError(f"template {self.name}: field {{{field}}} is not a plain name")

    @property
    def fields(self) -> frozenset[str]:
        """Names that rendering needs; `options_` where the options are shown."""
        formatter = string.Formatter()
        return frozenset(
            field for text in (self.inputs, self.targets) for _, field, _, _ in formatter.parse(text) if field
        )

    def render(self, fields: Mapping[str, str], options: Sequence[str] = ()) -> tuple[str, str]:
        """(inputs, targets) of one example; values may hold braces, they are not read as fields.

        Raises:
          KeyError: the example lacks a field of the template.
        """
        values = {**fields, OPTIONS_FIELD: format_options(options)} if options else fields
        return self.inputs.format_map(values), self.targets.format_map(values)


def template_index(cluster: str, identifier: str, count: int) -> int:
    """Which of `count` templates an example gets: a stable hash, so that no order of reading changes it."""
    return stable_hash(f"template/{cluster}/{identifier}") % count
