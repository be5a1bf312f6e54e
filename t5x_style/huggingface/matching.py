"""Which config.json a model of ours has in Hugging Face: that of its import, or of the family that gives it back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import defaults, registry
from t5x_style.huggingface.folder import config_of

# How a model is initialised or trained (dropout, router losses) is no part of what it computes.
_NOT_COMPUTED = {"init", "dropout", "vocab_multiple", "balance_weight", "z_weight"}
# Tried first: the plainest families, which every version of transformers has.
_COMMON = (
    *("llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3_text", "glm", "glm4"),
    *("gpt2", "bloom", "t5", "bert"),
)
# Formats of our own, which transformers does not open: only where they are asked for.
_ON_REQUEST = ("gpt3",)
# What to_config of a family that does not fit may end in: it reads parts that the model has not.
_DOES_NOT_FIT = (AssertionError, LookupError, AttributeError, TypeError, ValueError, ArithmeticError)


@dataclasses.dataclass(frozen=True)
class Match:
    """The outcome.

    Attributes:
      family: the module. settings: the whole config.json.
    """

    family: ModuleType
    settings: dict[str, Any]


def match(config: Any, original: Mapping[str, Any] | None = None, model_type: str | None = None) -> Match:
    """Finds the family and the settings of a configuration.

    Args:
      config: ours. original: the config.json that the model was imported with.
      model_type: the one to write; None: the original's, or the first that fits.

    Raises:
      UserError: no family holds the model (or that of `model_type` does not, naming what differs).
    """
    if original is not None and model_type in (None, original.get("model_type")):
        family = registry.family(original)
        if difference(config_of(family, original, "huggingface/config.json"), config) is None:
            return Match(family, dict(original))
        wanted = original.get("model_type")
    else:
        wanted = model_type
    found = _by_type(config, wanted) if wanted is not None else _first_that_fits(config)
    return Match(found.family, _merged(original or {}, found, config))


def with_reach(match: Match, config: Any, trained: int | None) -> Match:
    """With max_position_embeddings where a family has it and our configuration, which knows no such limit, does not.

    Args:
      match: of `config`. trained: tokens of a row in training; None: not known, the family's default is written.
    """
    name = "max_position_embeddings"
    usual = defaults.DEFAULTS.get(match.settings["model_type"], {}).get(name)
    if usual is None or name in match.settings:
        return match
    rope = match.settings.get("rope_parameters") or {}
    least = rope.get("original_max_position_embeddings", 0)
    if rope.get("rope_type") == "yarn":
        least = int(least * rope["factor"])
    settings = {**match.settings, name: max(usual if trained is None else trained, least)}
    return Match(match.family, settings) if _holds(match.family, settings, config) else match


def _merged(original: Mapping[str, Any], found: Match, config: Any) -> dict[str, Any]:
    """What is written anew over the settings of the original, as far as both say the same model."""
    changed = _changed(original, found)
    if changed is not None and _holds(found.family, merged := {**original, **changed}, config):
        return merged
    stale = {"rope_scaling", "rope_theta"} if "rope_parameters" in found.settings else set()
    merged = {key: value for key, value in original.items() if key not in stale} | found.settings
    if _holds(found.family, merged, config):
        return merged
    # Another name of a setting that has changed, or one that ours is without: only what is no part of the model stays.
    return {key: value for key, value in original.items() if key.endswith("_token_id")} | found.settings


def _changed(original: Mapping[str, Any], found: Match) -> dict[str, Any] | None:
    """Those of the settings written anew that the original's own model would not have; None: of another family."""
    kind = found.settings.get("model_type")
    if not original or kind != original.get("model_type"):
        return None
    try:
        before = found.family.to_config(config_of(found.family, original, "config.json"), kind)
    except (UserError, *_DOES_NOT_FIT):
        return None
    return {key: value for key, value in found.settings.items() if key not in before or before[key] != value}


def _holds(family: ModuleType, settings: Mapping[str, Any], config: Any) -> bool:
    try:
        return difference(config_of(family, settings, "config.json"), config) is None
    except UserError:
        return False


def _by_type(config: Any, kind: str) -> Match:
    families = [module for module in registry.modules() if kind in module.MODEL_TYPES]
    if not families:
        raise UserError(f"model_type {kind!r} is not a known architecture; known are {', '.join(registry.known())}")
    reasons = []
    for family in families:
        try:
            settings = family.to_config(config, kind)
            differs = difference(family.from_config(settings), config)
        except UserError as error:
            reasons.append(str(error))
            continue
        except _DOES_NOT_FIT:
            reasons.append(f"{kind} models are built of other parts")
            continue
        if differs is None:
            return Match(family, settings)
        reasons.append(differs)
    raise UserError(f"model_type {kind!r} does not hold this model: {reasons[0]}; choose another --model_type")


def _first_that_fits(config: Any) -> Match:
    kinds = [*_COMMON, *(kind for kind in registry.known() if kind not in _COMMON and kind not in _ON_REQUEST)]
    for kind in kinds:
        try:
            return _by_type(config, kind)
        except UserError:
            continue
    raise UserError(
        f"no known architecture of Hugging Face holds this {type(config).__name__}; known are "
        f"{', '.join(registry.known())}; --model_type NAME says what differs from one of them"
    )


def difference(theirs: Any, ours: Any, where: str = "") -> str | None:
    """The first field in which two configurations compute something else; None: they are the same model."""
    if type(theirs) is not type(ours):
        return f"{where or 'the model'} is {_short(ours)}, not {_short(theirs)}"
    if dataclasses.is_dataclass(ours):
        for field in dataclasses.fields(ours):
            if field.name not in _NOT_COMPUTED:
                path = f"{where}.{field.name}" if where else field.name
                found = difference(getattr(theirs, field.name), getattr(ours, field.name), path)
                if found is not None:
                    return found
        return None
    if isinstance(ours, tuple) and len(ours) == len(theirs):
        pairs = enumerate(zip(theirs, ours, strict=True))
        return next((found for i, (a, b) in pairs if (found := difference(a, b, f"{where}[{i}]")) is not None), None)
    return None if theirs == ours else f"{where} is {_short(ours)}, not {_short(theirs)}"


def _short(value: Any) -> str:
    return type(value).__name__ if dataclasses.is_dataclass(value) else repr(value)
