"""Language models as flax NNX modules built from frozen configurations."""

from t5x_style.models.build import abstract, build, parameter_count
from t5x_style.models.flops import flops_by_side, flops_per_token
from t5x_style.models.specs import DecoderConfig, DtypePolicy, Execution

__all__ = [
    "DecoderConfig",
    "DtypePolicy",
    "Execution",
    "abstract",
    "build",
    "flops_by_side",
    "flops_per_token",
    "parameter_count",
]
