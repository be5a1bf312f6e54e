"""The configuration of XLNet (Yang et al. 2019): a post-norm trunk whose attention is relative and has two streams."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t5x_style.models.specs.architectures import TransformerConfig
from t5x_style.models.specs.checks import check, choice
from t5x_style.models.specs.layer_specs import LayerSpec, MlpSpec


@dataclasses.dataclass(frozen=True)
class XLNetConfig(TransformerConfig):
    """XLNet; see TransformerConfig. AttentionSpec.causal tells "uni" (True, Transformer-XL) from "bi" (XLNet).

    Attributes:
      memory_length: hidden states that are kept of earlier segments, per layer; None: all.
      reuse_length: of a segment, only so many first positions go into the memory; None: all.
      bidirectional_data: the second half of a batch runs backwards in time, its distances have the other sign.
      clamp_length: distances beyond it count as it; None: no limit.
      same_length: every query of a "uni" model sees equally many keys, itself and the slots before it.
      blind: what a position that may see nothing attends to (the first target of a factorisation order without
        context): "zero" gives a zero vector; "mean" the mean over its document, itself included, as the released
        code and transformers have it.
    """

    memory_length: int | None = None
    reuse_length: int | None = None
    bidirectional_data: bool = False
    clamp_length: int | None = None
    same_length: bool = False
    blind: Literal["zero", "mean"] = "zero"

    def __post_init__(self):
        super().__post_init__()
        for name in ("memory_length", "reuse_length", "clamp_length"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"XLNetConfig.{name} is {value}; give at least 1, or None")
        choice(self.blind, ("zero", "mean"), "XLNetConfig.blind")
        check(self.embed_dim % 2 == 0, f"XLNetConfig.embed_dim is {self.embed_dim}; sines and cosines need an even one")
        check(
            self.embedding.positions is None and self.embedding.types == 0 and self.relative_bias is None,
            "XLNetConfig: positions and token types belong to its attention; leave EmbeddingSpec without them",
        )
        for layer in self.layers:
            _check_layer(layer)
        check(
            len({layer.attention.causal for layer in self.layers}) == 1,
            "XLNetConfig: AttentionSpec.causal must be the same in all layers",
        )
        check(
            not self.same_length or self.causal,
            "XLNetConfig.same_length needs AttentionSpec.causal; it is an option of the one-directional model",
        )

    @property
    def causal(self) -> bool:
        """Whether positions see only what is before them (attn_type "uni")."""
        return self.layers[0].attention.causal


def _check_layer(layer: LayerSpec) -> None:
    spec = layer.attention
    check(
        layer.placement == "post" and layer.cross_attention is None and isinstance(layer.mlp, MlpSpec),
        'XLNetConfig: layers need placement "post", an MlpSpec and no cross_attention',
    )
    check(
        spec.kv_heads == spec.heads,
        f"XLNetConfig: {spec.kv_heads} kv_heads for {spec.heads} heads; its attention is not grouped, make them equal",
    )
    plain = spec.rope is None and spec.window is None and spec.qk_norm is None and spec.logit_softcap is None
    check(
        plain and not (spec.alibi or spec.qkv_bias or spec.output_bias),
        "XLNetConfig: AttentionSpec must have rope=None, no biases, window, alibi, qk_norm or logit_softcap",
    )
