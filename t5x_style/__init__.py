"""t5x_style: language models in JAX from web crawl to aligned model (see docs/architecture.md)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from t5x_style.loaded_model import LoadedModel, load_model

__version__ = "0.1.0"
__all__ = ["LoadedModel", "__version__", "load_model"]


def __getattr__(name: str) -> Any:
    """Imports jax and the model code at the first use: `import t5x_style` itself is instant."""
    if name in ("LoadedModel", "load_model"):
        return getattr(importlib.import_module("t5x_style.loaded_model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "annotations", "importlib"})
