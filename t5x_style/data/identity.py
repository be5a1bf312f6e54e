"""What must be equal for a saved position to mean the same batches: settings and sources by name.

Worked example, the identity of two sources (shortened):

    {"settings": {"seed": 0, "packing": true, "streams": 8, "parts": [{"step": 0, "lengths": {"decoder": 512}, ...}]},
     "sources": {"tasks": {"examples": 900, "shards": "c2f1..."}, "web": {"examples": 70000, "shards": "9a40..."}}}

A saved value must be equal; a setting that the saved identity lacks (it is newer) must stand at its default; stages
that had not begun may change, come or go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from t5x_style.data.data_config import DataConfig
from t5x_style.data.manifest import Manifest
from t5x_style.data.objectives.objective import Objective
from t5x_style.data.sources import SourceSet
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

Identity = dict[str, Any]
_SETTINGS = ("seed", "shuffle", "repeat", "packing", "isolate", "unit")


def identity(config: DataConfig, found: SourceSet, rates: Sequence[Sequence[float]], streams: int) -> Identity:
    """The identity of a loader, as JSON.

    Args:
      rates: of every stage, the rates at which groups of its sources are read. streams: V.
    """
    settings: Identity = {name: getattr(config, name) for name in _SETTINGS}
    settings["unit"] = found.unit
    settings["streams"] = streams
    settings["parts"] = [
        {
            "step": part.step,
            "lengths": dict(part.lengths),
            "batch_size": part.batch_size,
            "sources": {
                use.cached.name: {"rate": rate, "objective": describe(use.objective)}
                for use, rate in zip(part.uses, of_part)
            },
        }
        for part, of_part in zip(found.parts, rates)
    ]
    sources = {
        cached.name: {
            "task": cached.task,
            "split": cached.split,
            "examples": cached.manifest.examples,
            "vocabulary": found.fingerprint,
            "shards": fingerprint(_shards(cached.manifest))[:12],
        }
        for cached in found.sources
    }
    return {"settings": settings, "sources": sources}


def _shards(manifest: Manifest) -> list[list[Any]]:
    """ArrayRecord files are padded: sizes alone would not tell data apart."""
    return [[shard.examples, sorted(shard.tokens.items()), shard.bytes] for shard in manifest.shards]


def describe(objective: Objective) -> Identity:
    """An objective as JSON: its class and every setting, nested ones too."""
    return _json(objective)


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"class": type(value).__name__} | {
            field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def check_identity(saved: Mapping[str, Any], own: Identity, batches: int) -> None:
    """Raises UserError unless a saved position means the same batches here.

    Args:
      saved: the identity in the state. own: this loader's. batches: handed out when it was saved.
    """
    saved, own = _begun(saved, batches), _begun(own, batches)
    for place, before, now in differences(saved, own):
        if before is _ABSENT and now == _default(place, own):
            continue
        told = "nothing" if before is _ABSENT else repr(before)
        raise UserError(
            f"loader state was made with {place} = {told}, the run has {'nothing' if now is _ABSENT else repr(now)}; "
            "set it back, or start a new run from the checkpoint's parameters"
        )


_ABSENT = object()


def _begun(value: Mapping[str, Any], batches: int) -> Identity:
    """The identity without stages that had not begun and sources that only those read; causes before effects."""
    parts = [part for part in value["settings"]["parts"] if part["step"] < max(batches, 1)]
    read = {name for part in parts for name in part["sources"]}
    return {
        "settings": {name: each for name, each in value["settings"].items() if name != "parts"},
        "steps of stages": [part["step"] for part in parts[1:]],
        "sources": {name: each for name, each in value["sources"].items() if name in read},
        "parts": {f"from step {part['step']}": part for part in parts},
    }


def differences(saved: Any, own: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(where, saved, own) of every value that differs, `_ABSENT` where one has none."""
    if isinstance(saved, Mapping) and isinstance(own, Mapping):
        for name in dict.fromkeys([*saved, *own]):
            where = name if place in ("", "settings") else f"{place}.{name}"
            yield from differences(saved.get(name, _ABSENT), own.get(name, _ABSENT), where)
    elif saved is _ABSENT or own is _ABSENT or saved != own:
        yield place, saved, own


def _default(place: str, own: Identity) -> Any:
    """The default of a setting that a saved identity lacks: of DataConfig or of the objective it belongs to."""
    name = place.rpartition(".")[2]
    if place == name:
        return next((field.default for field in dataclasses.fields(DataConfig) if field.name == name), _ABSENT)
    holder = own
    for part in place.split(".")[:-1]:
        holder = holder.get(part, holder.get("settings", {}).get(part, {}))
    return _defaults_of(str(holder.get("class"))).get(name, _ABSENT)


def _defaults_of(name: str) -> dict[str, Any]:
    """Defaults of a dataclass by the name of its class, as JSON: every subclass of Objective that is known."""
    waiting: list[type] = [Objective]
    while waiting:
        kind = waiting.pop()
        if kind.__name__ == name:
            return {
                field.name: _json(field.default)
                for field in dataclasses.fields(kind)
                if field.default is not dataclasses.MISSING
            }
        waiting += kind.__subclasses__()
    return {}
