"""Which attention each layer has, as `layer_types` of a config.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from t5x_style.errors import UserError

SLIDING, FULL = "sliding_attention", "full_attention"


def layer_types(settings: Mapping[str, Any]) -> list[str]:
    """SLIDING or FULL for every layer.

    Raises:
      UserError: another kind, or not one for every layer.
    """
    found, layers = list(settings["layer_types"]), settings["num_hidden_layers"]
    unknown = sorted({str(kind) for kind in found} - {SLIDING, FULL})
    if unknown:
        raise UserError(f"config.json: layer_types has {unknown[0]!r}; known are {FULL}, {SLIDING}")
    if len(found) != layers:
        raise UserError(f"config.json: layer_types names {len(found)} layers, num_hidden_layers is {layers}")
    return found
