"""Configurations of models: frozen dataclasses of small parts, checked when built, equal and hashable by value.

architectures is where a reader starts; the parts it is made of are a file a kind. All names can be had from here.
"""

from t5x_style.models.specs.architectures import (
    DecoderConfig,
    EmbeddingSpec,
    EncoderConfig,
    EncoderDecoderConfig,
    HeadSpec,
    InitSpec,
    TransformerConfig,
)
from t5x_style.models.specs.dropout import NO_DROPOUT, DropoutSpec
from t5x_style.models.specs.dtypes import DTYPES, FLOAT32, DtypePolicy
from t5x_style.models.specs.execution import DEFAULT_EXECUTION, Execution
from t5x_style.models.specs.head_specs import SpanBoundarySpec, TaskHeadSpec
from t5x_style.models.specs.layer_specs import (
    ACTIVATIONS,
    Activation,
    AttentionSpec,
    LayerGroup,
    LayerSpec,
    MlpSpec,
    MoeSpec,
    NormSpec,
)
from t5x_style.models.specs.position_specs import PositionSpec, RelativeBiasSpec, RopeScaling, RopeSpec

__all__ = [
    "ACTIVATIONS",
    "DEFAULT_EXECUTION",
    "DTYPES",
    "FLOAT32",
    "NO_DROPOUT",
    "Activation",
    "AttentionSpec",
    "DecoderConfig",
    "DropoutSpec",
    "DtypePolicy",
    "EmbeddingSpec",
    "EncoderConfig",
    "EncoderDecoderConfig",
    "Execution",
    "HeadSpec",
    "InitSpec",
    "LayerGroup",
    "LayerSpec",
    "MlpSpec",
    "MoeSpec",
    "NormSpec",
    "PositionSpec",
    "RelativeBiasSpec",
    "RopeScaling",
    "RopeSpec",
    "SpanBoundarySpec",
    "TaskHeadSpec",
    "TransformerConfig",
]
