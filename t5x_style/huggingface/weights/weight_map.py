"""From names of tensors in a Hugging Face folder to our parameters and back, one tensor at a time.

A family says in rules how one tensor of theirs lies in ours; everything else is here: layers to stacks, missing, extra
and misshapen tensors, ties. Ours are addressed by path, "trunk/segments/0/layers/0/attention/query/kernel".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from t5x_style.errors import UserError
from t5x_style.huggingface.weights.layouts import Flat, Fused, Layout
from t5x_style.models.specs import TransformerConfig

_SCALE_AND_BIAS = (("weight", "scale"), ("bias", "bias"))


@dataclass(frozen=True)
class Rule:
    """One tensor of theirs.

    Attributes:
      theirs: its name. ours: paths of the parameters in it, one for a Layout, several for Fused.
      expert: which expert's it is; our parameter holds all experts, one behind the other.
    """

    theirs: str
    ours: tuple[str, ...]
    layout: Layout | Fused
    expert: int | None = None


def one(theirs: str, ours: str, layout: Layout) -> Rule:
    """A tensor that is one parameter."""
    return Rule(theirs, (ours,), layout)


def layer_norm(theirs: str, ours: str, width: int) -> list[Rule]:
    """Scale and bias of a LayerNorm."""
    return [one(f"{theirs}.{name}", f"{ours}/{path}", Flat((width,))) for name, path in _SCALE_AND_BIAS]


def experts(theirs: str, ours: str, layout: Layout, count: int) -> list[Rule]:
    """The tensors of all experts; {} in the name is the expert's number."""
    return [Rule(theirs.format(number), (ours,), layout, number) for number in range(count)]


def fused(theirs: str, parts: Mapping[str, Layout], groups: int = 1) -> Rule:
    """A tensor that holds several parameters, in the order of `parts` (path -> layout)."""
    return Rule(theirs, tuple(parts), Fused(tuple(parts.values()), groups))


@dataclass(frozen=True)
class Place:
    """Where a layer lies in a trunk: `path` of its stack and `row` in it, None where all repeats share weights."""

    path: str
    row: int | None


def places(config: TransformerConfig, trunk: str = "trunk") -> list[Place]:
    """The place of every layer, in the order they run; a shared layer comes once."""
    found = []
    for number, segment in enumerate(config.segments):
        for row in range(1 if segment.shared else segment.repeats):
            for position in range(len(segment.pattern)):
                path = f"{trunk}/segments/{number}/layers/{position}/"
                found.append(Place(path, None if segment.shared else row))
    return found


@dataclass(frozen=True)
class Stacked:
    """A rule of one layer: its parameters are rows of stacks."""

    rule: Rule
    row: int | None


@dataclass(frozen=True)
class WeightMap:
    """All tensors of a model.

    Attributes:
      outside: tensors outside the layers.
      layers: those of the layers, each with its row.
      ignored: patterns of names that files may hold and nothing needs (buffers, tied copies).
    """

    outside: Sequence[Rule]
    layers: Sequence[Stacked] = ()
    ignored: Sequence[str] = field(default=())

    def rules(self) -> Iterator[tuple[Rule, tuple[int, ...]]]:
        """Every rule and the place of its parameters in their stacks: (), (layer,), (expert,) or (layer, expert)."""
        for rule, row in [(rule, None) for rule in self.outside] + [(held.rule, held.row) for held in self.layers]:
            yield rule, tuple(number for number in (row, rule.expert) if number is not None)


def layer_rules(
    config: TransformerConfig, prefix: str, rules: Callable[[int], Iterable[Rule]], trunk: str = "trunk"
) -> list[Stacked]:
    """The rules of every layer.

    Args:
      prefix: of their names, with {} for the number of the layer.
      rules: given a layer's number, its rules, with names behind the prefix and paths inside the block.
    """
    found = []
    for number, place in enumerate(places(config, trunk)):
        for rule in rules(number):
            ours = tuple(place.path + path for path in rule.ours)
            named = Rule(prefix.format(number) + rule.theirs, ours, rule.layout, rule.expert)
            found.append(Stacked(named, place.row))
    return found


def read(
    weights: Mapping[str, Callable[[], np.ndarray]] | Mapping[str, np.ndarray],
    mapping: WeightMap,
    shapes: Mapping[str, tuple[int, ...]],
    source: str = "the weights",
) -> Iterator[tuple[str, np.ndarray]]:
    """Our parameters, one after the other, as soon as all tensors of one are read.

    Args:
      weights: their tensors by name, or functions that read them.
      shapes: path -> shape of our parameter, layers and experts included.
      source: file or folder, for messages.

    Raises:
      UserError: a tensor is missing, extra or has another shape; before anything is read where names decide.
    """
    _check_names(weights, mapping, source)
    waiting: dict[str, tuple[np.ndarray, int]] = {}
    for rule, place in mapping.rules():
        held = weights[rule.theirs]
        value = np.asarray(held() if callable(held) else held)
        if value.shape != rule.layout.theirs:
            raise UserError(
                f"{source}: tensor {rule.theirs} has shape {value.shape}, the configuration needs {rule.layout.theirs}"
            )
        pieces = rule.layout.read(value) if isinstance(rule.layout, Fused) else [rule.layout.read(value)]
        for path, piece in zip(rule.ours, pieces, strict=True):
            if not place:
                yield path, piece
                continue
            if path not in waiting:
                waiting[path] = (np.empty(shapes[path], piece.dtype), 0)
            stack, count = waiting.pop(path)
            stack[place] = piece
            if count + 1 == math.prod(shapes[path][: len(place)]):
                yield path, stack
            else:
                waiting[path] = (stack, count + 1)
    assert not waiting, sorted(waiting)


def write(parameters: Mapping[str, Any], mapping: WeightMap) -> Iterator[tuple[str, np.ndarray]]:
    """Their tensors by name, the inverse of `read`; arrays are indexed by (), (layer,), (expert,), (layer, expert)."""
    for rule, place in mapping.rules():
        values = [parameters[path][place] for path in rule.ours]
        layout = rule.layout
        value = layout.write(values) if isinstance(layout, Fused) else layout.write(np.asarray(values[0]))
        yield rule.theirs, np.ascontiguousarray(value)


def _check_names(names: Iterable[str], mapping: WeightMap, source: str) -> None:
    wanted = {rule.theirs for rule, _ in mapping.rules()}
    there = set(names)
    missing = sorted(wanted - there)
    if missing:
        more = f" ({len(missing)} such tensors)" if len(missing) > 1 else ""
        raise UserError(f"{source}: tensor {missing[0]} is missing{more}; the weights do not fit config.json")
    ignored = re.compile("|".join(f"(?:{pattern})" for pattern in mapping.ignored) or r"(?!)")
    extra = sorted(name for name in there - wanted if not ignored.fullmatch(name))
    if extra:
        more = f" ({len(extra)} such tensors)" if len(extra) > 1 else ""
        raise UserError(f"{source}: tensor {extra[0]} has no place in this model{more}; config.json does not fit")
