"""Their names of activation functions and ours."""

from __future__ import annotations

from t5x_style.errors import UserError
from t5x_style.models.specs import Activation

# "gelu_new", "gelu_pytorch_tanh" and "gelu_fast" are one function, the tanh approximation.
ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
}
_SYNONYMS: dict[str, Activation] = {"swish": "silu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh"}


_THEIRS = {ours: theirs for theirs, ours in ACTIVATIONS.items()}


def their_activation(ours: Activation) -> str:
    """Their name of an activation."""
    return _THEIRS[ours]


def activation(theirs: str) -> Activation:
    """Our name of an activation; UserError where we have none."""
    found = ACTIVATIONS.get(theirs) or _SYNONYMS.get(theirs)
    if found is None:
        raise UserError(f"config.json: activation {theirs!r} is not known; known are {', '.join(ACTIVATIONS)}")
    return found
