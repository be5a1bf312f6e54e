"""Rotary settings of a config.json, in the form of transformers 5 (`rope_parameters`) or before (`rope_scaling`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from t5x_style.errors import UserError
from t5x_style.models.specs import RopeScaling, RopeSpec


def read(settings: Mapping[str, Any], *, base: float = 10000.0, dim: int | None = None) -> RopeSpec:
    """A RopeSpec of a whole config.json.

    Args:
      base: theta where the file has none. dim: turning dimensions, None: all.

    Raises:
      UserError: a kind of scaling that is not known.
    """
    found = dict(settings.get("rope_parameters") or settings.get("rope_scaling") or {})
    theta = found.get("rope_theta", settings.get("rope_theta", base))
    reach = settings.get("max_position_embeddings", 8192)
    return spec(found, float(theta), int(reach), dim)


def spec(found: Mapping[str, Any], theta: float, reach: int, dim: int | None = None) -> RopeSpec:
    """A RopeSpec of one `rope_parameters` mapping; `reach` is max_position_embeddings.

    Dynamic scaling starts behind `reach`, as in transformers, whatever original_max_position_embeddings is.
    """
    kind = found.get("rope_type", found.get("type", "default"))
    if kind == "default":
        return RopeSpec(theta, dim=dim)
    if kind not in ("linear", "dynamic", "llama3", "yarn"):
        raise UserError(
            f"config.json: rope_type {kind!r} is not known; known are default, linear, dynamic, llama3, yarn"
        )
    original = reach if kind == "dynamic" else found.get("original_max_position_embeddings") or reach
    factor = found.get("factor")
    if factor is None and kind == "yarn":
        factor = reach / original
    elif factor is None:
        raise UserError(f"config.json: rope_type {kind!r} needs a factor; add it")
    amplitude = found.get("attention_factor")
    if kind == "yarn" and amplitude is None and found.get("mscale") and found.get("mscale_all_dim"):
        amplitude = _mscale(factor, found["mscale"]) / _mscale(factor, found["mscale_all_dim"])
    scaling = RopeScaling(
        kind=kind,
        factor=float(factor),
        low_frequency_factor=float(found.get("low_freq_factor", 1.0)),
        high_frequency_factor=float(found.get("high_freq_factor", 4.0)),
        original_length=8192 if kind == "linear" else int(original),
        beta_fast=float(found.get("beta_fast") or 32.0),
        beta_slow=float(found.get("beta_slow") or 1.0),
        attention_factor=amplitude,
        round_limits=bool(found.get("truncate", True)),
    )
    return RopeSpec(theta, scaling, dim=dim)


def _mscale(factor: float, weight: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def write(rope: RopeSpec) -> dict[str, Any]:
    """The `rope_parameters` of a RopeSpec; `read` gives it back, with what `length` gives."""
    settings: dict[str, Any] = {"rope_type": "default", "rope_theta": rope.base}
    scaling = rope.scaling
    if scaling is None:
        return settings
    settings |= {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind in ("llama3", "yarn"):
        settings["original_max_position_embeddings"] = scaling.original_length
    if scaling.kind == "llama3":
        settings |= {"low_freq_factor": scaling.low_frequency_factor, "high_freq_factor": scaling.high_frequency_factor}
    if scaling.kind == "yarn":
        settings |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow, "truncate": scaling.round_limits}
        if scaling.attention_factor is not None:
            settings["attention_factor"] = scaling.attention_factor
    return settings


def length(rope: RopeSpec) -> dict[str, Any]:
    """The max_position_embeddings that a RopeSpec needs beside `write`'s mapping; {} where it needs none."""
    if rope.scaling is None or rope.scaling.kind != "dynamic":
        return {}
    return {"max_position_embeddings": rope.scaling.original_length}
