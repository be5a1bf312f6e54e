"""What a parity case is: one small configuration of a family and what it is compared with."""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# (settings, tensors by name, tokens [B, L] of whole, unpadded rows) -> logits [B, L, vocab_size]
Reference = Callable[[Mapping[str, Any], Mapping[str, np.ndarray], np.ndarray], np.ndarray]


class Case(NamedTuple):
    """One configuration.

    Attributes:
      family: module in t5x_style/huggingface/families.
      config: class of its configuration in transformers; None where a reference stands in for them.
      settings: of that class, or the whole config.json, model_type included, for a reference.
      model: class of the model in transformers; None: the one that the family's MODEL_TYPES names.
      reference: slow numpy code of families that transformers lacks; weights are drawn for it.
      max_new_tokens: greedy tokens to compare, where the model generates.
      prompts: what is continued; None: random ids.
      left_padding: whether one row is padded on the left too; not where positions count the padding otherwise.
      gradients: whether the table compares gradients.
    """

    family: str
    config: str | None
    settings: Mapping[str, Any]
    model: str | None = None
    reference: Reference | None = None
    max_new_tokens: int = 12
    prompts: Sequence[Sequence[int]] | None = None
    left_padding: bool = True
    gradients: bool = False


def all_cases() -> dict[str, Case]:
    """Every case by its name, from all modules of this folder; a name must be given once only."""
    found: dict[str, Case] = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        if path.name == "case.py":
            continue
        module = importlib.import_module(f"tests.parity.cases.{path.stem}")
        twice = set(found) & set(module.CASES)
        assert not twice, f"{path.name} and another file have cases named {sorted(twice)}"
        found |= module.CASES
    return found
