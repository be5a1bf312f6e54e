"""Configurations to JSON and back: the content of model.json.

Every dataclass becomes an object whose "type" names its class, so that a file explains itself and a new
family of parts needs no schema change. Example: {"type": "NormSpec", "kind": "rmsnorm", "epsilon": 1e-05}.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from t5x_style.errors import UserError
from t5x_style.models import specs as parts
from t5x_style.models.specs.recurrent_config import RecurrentConfig
from t5x_style.models.specs.xlnet_config import XLNetConfig

FORMAT = 1

# What a class is called in files that were written before it got its present name.
_NAMES_ON_DISK = {"LayerGroup": "Segment"}
# Fields of files that were written before how a model runs became a matter of the run (models/specs/execution.py).
_NO_LONGER_OURS = {"remat", "scan"}
_RAN = (parts.DecoderConfig, parts.EncoderConfig, parts.TransformerConfig, XLNetConfig)
_TYPES: dict[str, type] = {
    _NAMES_ON_DISK.get(cls.__name__, cls.__name__): cls
    for cls in (
        parts.DecoderConfig,
        parts.EncoderConfig,
        parts.EncoderDecoderConfig,
        parts.TransformerConfig,
        parts.DtypePolicy,
        parts.LayerGroup,
        parts.LayerSpec,
        parts.AttentionSpec,
        parts.MlpSpec,
        parts.MoeSpec,
        parts.EmbeddingSpec,
        parts.PositionSpec,
        parts.RelativeBiasSpec,
        parts.NormSpec,
        parts.RopeSpec,
        parts.RopeScaling,
        parts.HeadSpec,
        parts.TaskHeadSpec,
        parts.SpanBoundarySpec,
        parts.InitSpec,
        parts.DropoutSpec,
        XLNetConfig,
        RecurrentConfig,
    )
}


def to_json(config: Any) -> str:
    """Writes a configuration as JSON text with its format version; `from_json` gives back an equal one."""
    return json.dumps({"format": FORMAT, "config": _encode(config)}, indent=2) + "\n"


def from_json(text: str, source: str = "model.json") -> Any:
    """Reads what `to_json` wrote.

    Args:
      text: the JSON. source: its name in messages.

    Raises:
      UserError: no JSON, another format version, an unknown type or field, a missing field, a value out of range.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{source} is no JSON ({error}); write it with to_json or copy it again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else None
        raise UserError(f"{source} has format {found!r}, this version reads {FORMAT}; convert it or change versions")
    if set(document) != {"format", "config"}:
        raise UserError(f"{source} must hold exactly 'format' and 'config', found {', '.join(sorted(document))}")
    return _decode(document["config"], source)


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        name = _NAMES_ON_DISK.get(type(value).__name__, type(value).__name__)
        if _TYPES.get(name) is not type(value):
            raise UserError(f"{type(value).__name__} cannot be written to model.json; use the parts of models.specs")
        fields = {field.name: _encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": name, **fields}
    if isinstance(value, (list, tuple)):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UserError(f"a value of type {type(value).__name__} cannot be written to model.json")


def _decode(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return tuple(_decode(item, f"{where}[{index}]") for index, item in enumerate(value))
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if name not in _TYPES:
        raise UserError(f"{where}: unknown type {name!r}; known are {', '.join(_TYPES)}")
    cls = _TYPES[name]
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if cls in _RAN:
        value = {key: item for key, item in value.items() if key not in _NO_LONGER_OURS}
    unknown = sorted(set(value) - set(fields) - {"type"})
    if unknown:
        raise UserError(f"{where}: {name} has no field {unknown[0]!r}; its fields are {', '.join(fields)}")
    arguments = {key: _decode(item, f"{where}.{key}") for key, item in value.items() if key != "type"}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise UserError(f"{where}: {name} cannot be built ({error}); fields are {', '.join(fields)}") from error
