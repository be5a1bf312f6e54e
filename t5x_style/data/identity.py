"""What must be equal for a saved position to mean the same batches: settings and sources by name.

Worked example, the identity of two sources (shortened):

    {"settings": {"seed": 0, "packing": true, "streams": 8, "parts": [{"step": 0, "lengths": {"decoder": 512}, ...}]},
     "sources": {"tasks": {"examples": 900, "shards": "c2f1..."}, "web": {"examples": 70000, "shards": "9a40..."}}}

A saved value must be equal; a setting that the saved identity lacks (it is newer) must stand at its default; stages
that had not begun may change, come or go.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data.data_config import DataConfig
from t5x_style.data.manifest import Manifest
from t5x_style.data.objectives.objective import Objective
from t5x_style.data.sources import SourceSet
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

Identity = dict[str, Any]
_SETTINGS = ("seed", "shuffle", "repeat", "packing", "isolate")


def identity(config: DataConfig, found: SourceSet, rates: Sequence[Sequence[float]], streams: int) -> Identity:
    """The identity of a loader, as JSON.

    Args:
      rates: of every stage, the rates at which groups of its sources are read. streams: V.
    """
    settings: Identity = {name: getattr(config, name) for name in _SETTINGS}
    settings["streams"] = streams
    settings["parts"] = [
        {
            "step": part.step,
            "lengths": dict(part.lengths),
            "batch_size": part.batch_size,
            "sources": {
                use.cached.name: {
                    "weight": use.share.weight * use.share.rate,
                    "share": rate / sum(of_part),
                    "objective": describe(use.objective),
                }
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
            "code": cached.manifest.code,
            "append_eos": sorted(cached.manifest.append_eos),
            "trim": dict(cached.manifest.trim),
            "shards": fingerprint(_shards(cached.manifest))[:12],
        }
        for cached in found.sources
    }
    return {"settings": settings, "sources": sources}


def _shards(manifest: Manifest) -> list[list[Any]]:
    """ArrayRecord files are padded: sizes alone would not tell data apart."""
    return [[shard.examples, sorted(shard.tokens.items()), shard.bytes] for shard in manifest.shards]


def describe(objective: Objective) -> Identity:
    """An objective as JSON: its class, how it groups examples, and every setting, nested ones too."""
    groups = {name: getattr(objective, name) for name in ("group", "least", "copies")}
    return _json(objective) | groups


def _json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        defaults = {field.name: field.default for field in dataclasses.fields(kind)}
        own = {name: _json(getattr(value, name)) for name in defaults}
        default = {name: _json(each) for name, each in defaults.items() if each is not dataclasses.MISSING}
        return {"class": kind.__name__, **own, _DEFAULTS: default}
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_json(item) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return f"array {list(value.shape)} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]}"
    return getattr(value, "__qualname__", None) or type(value).__qualname__


_DEFAULTS = "defaults"  # of the settings of a part; never compared


def stored(value: Any) -> Any:
    """An identity as a state keeps it: without the defaults, which are the reader's own affair."""
    if isinstance(value, Mapping):
        return {name: stored(each) for name, each in value.items() if name != _DEFAULTS}
    return [stored(each) for each in value] if isinstance(value, list) else value


def check_identity(saved: Mapping[str, Any], own: Identity, batches: int) -> None:
    """Raises UserError unless a saved position means the same batches here.

    Args:
      saved: the identity in the state. own: this loader's. batches: handed out when it was saved.
    """
    for place, before, now in differences(_begun(saved, batches), _begun(own, batches)):
        raise UserError(
            f"loader state was made with {readable(place)} = {_told(before)}, the run has {_told(now)}; set it back, "
            "or start a new run from the checkpoint's parameters"
        )


def readable(place: tuple[str, ...]) -> str:
    """Where a difference is, as the user wrote it.

    >>> readable(("settings", "seed"))
    'DataConfig.seed'
    >>> readable(("parts", "from step 0", "lengths", "decoder"))
    'DataConfig.length (decoder, from step 0)'
    >>> readable(("parts", "from step 9", "objectives", "web.en", "denoisers", "[2]", "weight"))
    'objective.denoisers[2].weight of web.en (from step 9)'
    >>> readable(("sources", "web.en", "shards"))
    'shards of source web.en'
    """
    kind, *rest = place
    if kind == "parts":
        step, what, *rest = rest
        if what == "objectives":
            name, *setting = rest or ["?"]
            path = "".join(part if part.startswith("[") else f".{part}" for part in setting)
            return f"objective{path} of {name} ({step})"
        told = {"lengths": "length", "weights": "sources"}.get(what, what)
        return f"DataConfig.{told} ({', '.join([*rest, step])})"
    if kind == "sources":
        return f"{'.'.join(rest[1:]) or 'data'} of source {rest[0]}"
    if kind == "settings":
        return f"DataConfig.{'.'.join(rest)}"
    return f"{kind}{''.join(rest)}"


def _told(value: Any) -> str:
    return "nothing" if value is _ABSENT else repr(value)


_ABSENT = object()


def _begun(value: Mapping[str, Any], batches: int) -> Identity:
    """The identity without stages that had not begun and sources that only those read; causes before effects."""
    parts = [part for part in value["settings"]["parts"] if part["step"] < max(batches, 1)]
    read = {name for part in parts for name in part["sources"]}
    defaults = {field.name: field.default for field in dataclasses.fields(DataConfig)}
    return {
        "settings": {name: each for name, each in value["settings"].items() if name != "parts"}
        | {_DEFAULTS: {name: defaults[name] for name in _SETTINGS}},
        "steps of stages": [part["step"] for part in parts[1:]],
        "sources": {name: each for name, each in value["sources"].items() if name in read},
        "parts": {f"from step {part['step']}": _compared(part) for part in parts},
    }


def _compared(part: Mapping[str, Any]) -> dict[str, Any]:
    """Weights are told by name where shares differ: 1 to 3 is the same mixture as .25 to .75."""
    shares = {name: each["share"] for name, each in part["sources"].items()}
    return {
        **{name: each for name, each in part.items() if name != "sources"},
        "objectives": {name: each["objective"] for name, each in part["sources"].items()},
        "weights": Weights(shares, {name: each["weight"] for name, each in part["sources"].items()}),
    }


@dataclasses.dataclass(frozen=True)
class Weights:
    """Shares by source, equal up to rounding, and what was declared."""

    shares: Mapping[str, float]
    declared: Mapping[str, float]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Weights) or set(self.shares) != set(other.shares):
            return False
        return all(math.isclose(share, other.shares[name], rel_tol=1e-9) for name, share in self.shares.items())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if len(self.declared) > 8:
            return f"{len(self.declared)} weights"
        return (
            "{"
            + ", ".join(f"{n!r}: {w:g}" for n, w in self.declared.items())
            + "} (of what is read: "
            + (", ".join(f"{share:.3g}" for share in self.shares.values()) + ")")
        )


def differences(saved: Any, own: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(where, saved, own) of every value that differs, `_ABSENT` where one has none.

    A setting that the saved side lacks and that stands at its own default is no difference.
    """
    if isinstance(saved, Mapping) and isinstance(own, Mapping):
        defaults = own.get(_DEFAULTS, {})
        for name in dict.fromkeys([*saved, *own]):
            if name == _DEFAULTS or (name not in saved and name in defaults and own[name] == defaults[name]):
                continue
            yield from differences(saved.get(name, _ABSENT), own.get(name, _ABSENT), (*place, name))
    elif isinstance(saved, list) and isinstance(own, list) and len(saved) == len(own):
        for index, (one, other) in enumerate(zip(saved, own)):
            yield from differences(one, other, (*place, f"[{index}]"))
    elif saved is _ABSENT or own is _ABSENT or saved != own:
        yield place, saved, own
