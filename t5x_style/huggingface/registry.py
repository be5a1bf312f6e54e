"""Which family module reads a config.json: every module in `families` that has MODEL_TYPES is one.

A family module has MODEL_TYPES (model_type -> transformers class name), `from_config`, `to_config`, `weight_map`, and
optionally `inputs`, and `complete(settings, names of tensors) -> settings` for what config.json leaves to the weights.
Where two modules share a model_type, `architectures` decides; a module that tells its folders from another's by other
settings has `accepts(settings) -> bool`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from t5x_style.errors import UserError
from t5x_style.huggingface import families


@functools.cache
def modules() -> tuple[ModuleType, ...]:
    """All family modules, in the order of their names; imported at the first call."""
    names = sorted(found.name for found in pkgutil.iter_modules(families.__path__))
    found = (importlib.import_module(f"{families.__name__}.{name}") for name in names)
    return tuple(module for module in found if hasattr(module, "MODEL_TYPES"))


def known() -> list[str]:
    """Every model_type that is known, sorted."""
    return sorted({kind for module in modules() for kind in module.MODEL_TYPES})


def family(settings: Mapping[str, Any], source: str = "config.json") -> ModuleType:
    """The family module of a config.json.

    Args:
      settings: the file's content. source: its path, for messages.

    Raises:
      UserError: no module knows its model_type, or none of those that do accepts it.
    """
    kind, architectures = settings.get("model_type"), settings.get("architectures") or []
    if kind is None:
        candidates = [module for module in modules() if set(module.MODEL_TYPES.values()) & set(architectures)]
    else:
        candidates = [module for module in modules() if kind in module.MODEL_TYPES]
    accepting = [module for module in candidates if not hasattr(module, "accepts") or module.accepts(settings)]
    if len(accepting) > 1:
        named = [module for module in accepting if set(module.MODEL_TYPES.values()) & set(architectures)]
        accepting = named or accepting
    if not accepting:
        shown = f"model_type {kind!r}" if kind is not None else f"architectures {architectures}"
        raise UserError(f"{source}: {shown} is not a known architecture; known are {', '.join(known())}")
    return accepting[0]


def class_name(settings: Mapping[str, Any], source: str = "config.json") -> str:
    """The transformers class of the language model of a config.json, such as "LlamaForCausalLM"."""
    types: dict[str, str] = family(settings, source).MODEL_TYPES
    architectures = settings.get("architectures") or []
    kind = settings.get("model_type")
    if kind in types:
        return types[kind]
    return next(name for name in types.values() if name in architectures)
