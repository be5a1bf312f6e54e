"""Which tensor of a folder is which of a weight map: old names, names without the model's prefix, ties.

Files of one architecture differ: GPT-2's were saved from the base model ("wte.weight" for "transformer.wte.weight"),
BERT's have TensorFlow's names of a LayerNorm ("gamma", "beta"), a tied table may come once under either name, twice, or
twice with different values, which then are no tie (transformers loads them so too).
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface.weights.safetensors_files import StoredTensor
from t5x_style.huggingface.weights.weight_map import WeightMap

_OLD_ENDINGS = {".gamma": ".weight", ".beta": ".bias"}
_COMPARED = 1 << 24  # bytes at a time


@dataclasses.dataclass(frozen=True)
class Matched:
    """The outcome.

    Attributes:
      config: ours, with tables untied where the file's differ. mapping: its weight map.
      tensors: by the names of `mapping`. ignored: names of the file that nothing needs.
    """

    config: Any
    mapping: WeightMap
    tensors: Mapping[str, StoredTensor]
    ignored: tuple[str, ...]


def match(stored: Mapping[str, StoredTensor], config: Any, family: ModuleType, source: str) -> Matched:
    """Finds every tensor that the family's weight map names.

    Raises:
      UserError: one is missing, or one has no place.
    """
    mapping = family.weight_map(config)
    wanted, ignored = _wanted(mapping), _pattern(mapping)
    renamed = _renamed(stored, lambda name: name in wanted or ignored.fullmatch(name) is not None, _prefix(wanted))
    copies = {name for name in renamed if name not in wanted and ignored.fullmatch(name)}
    table = next((rule for rule, _ in mapping.rules() if rule.ours == ("embedding/table",)), None)
    ties = sorted(name for name in copies if table is not None and renamed[name].shape == table.layout.theirs)
    if table is not None and ties:
        renamed.setdefault(table.theirs, renamed[ties[0]])
        for name in ties:
            if not _equal(renamed[name], renamed[table.theirs]):
                config, mapping = _untied(config, family, name, renamed[name], renamed[table.theirs])
                wanted = _wanted(mapping)
    _check_names(renamed, wanted, copies, source)
    tensors = {name: renamed[name] for name in wanted}
    return Matched(config, mapping, tensors, tuple(sorted(copies - wanted)))


def _wanted(mapping: WeightMap) -> set[str]:
    return {rule.theirs for rule, _ in mapping.rules()}


def _pattern(mapping: WeightMap) -> re.Pattern:
    return re.compile("|".join(f"(?:{pattern})" for pattern in mapping.ignored) or r"(?!)")


def _prefix(wanted: set[str]) -> str:
    """The prefix that most names have, which files of the base model leave out. Example: "transformer."."""
    counts = collections.Counter(name.partition(".")[0] for name in sorted(wanted))
    return counts.most_common(1)[0][0] + "."


def _renamed(stored: Mapping[str, StoredTensor], known: Callable[[str], bool], prefix: str) -> dict[str, StoredTensor]:
    """The tensors by the names that `known` knows, where a rule leads there; the others by their own."""
    found = {name: tensor for name, tensor in stored.items() if known(name)}
    unknown = [name for name in stored if name not in found]
    # a base model's weights as a larger model holds them: every name has that model's name for it in front
    inside = len({name.partition(".")[0] for name in unknown}) == 1
    for name in unknown:
        modern = name
        for old, new in _OLD_ENDINGS.items():
            if name.endswith(old):
                modern = name.removesuffix(old) + new
        candidates = [modern, prefix + modern] + ([modern.partition(".")[2]] if inside else [])
        candidates = [candidate for candidate in candidates if known(candidate)]
        found[next((candidate for candidate in candidates if candidate not in found), name)] = stored[name]
    return found


def _untied(config: Any, family: ModuleType, name: str, copy: StoredTensor, table: StoredTensor) -> Any:
    """(configuration, weight map) with a head of its own, where `name` is that head's table."""
    if hasattr(config, "decoder"):
        changed = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, tied_embeddings=False))
    else:
        changed = dataclasses.replace(config, tied_embeddings=False)
    mapping = family.weight_map(changed)
    if name not in _wanted(mapping):
        raise UserError(f"{copy.file}: tensor {copy.name} must be a copy of {table.name}, but has other values")
    return changed, mapping


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Same dtype and bytes, compared piece by piece."""
    if one == other:
        return True
    if (one.kind, one.shape) != (other.kind, other.shape):
        return False
    return all(
        one.read_bytes(start, _COMPARED) == other.read_bytes(start, _COMPARED)
        for start in range(0, one.nbytes, _COMPARED)
    )


def _check_names(found: Mapping[str, StoredTensor], wanted: set[str], ignored: set[str], source: str) -> None:
    missing = sorted(wanted - set(found))
    if missing:
        more = f" ({len(missing)} such tensors)" if len(missing) > 1 else ""
        raise UserError(f"{source}: tensor {missing[0]} is missing{more}; the weights do not fit config.json")
    extra = sorted(set(found) - wanted - ignored)
    if extra:
        more = f" ({len(extra)} such tensors)" if len(extra) > 1 else ""
        tensor = found[extra[0]]
        raise UserError(f"{tensor.file}: tensor {tensor.name} has no place in this model{more}; config.json differs")
