"""Specs of what a layer is made of, up to the segments of a trunk; re-exported by models/specs/."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from t5x_style.models.specs.checks import check, choice
from t5x_style.models.specs.position_specs import RopeSpec

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "tanh"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


@dataclasses.dataclass(frozen=True)
class NormSpec:
    """Normalisation over the last dimension: "rmsnorm" (scale only) or "layernorm" (scale and bias).

    Attributes:
      epsilon: added to the mean square.
      scale_offset: added to the stored scale; Gemma stores its scales around 0 and has 1 here.
    """

    kind: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    epsilon: float = 1e-5
    scale_offset: float = 0.0

    def __post_init__(self):
        choice(self.kind, ("rmsnorm", "layernorm"), "NormSpec.kind")
        check(self.epsilon > 0, f"NormSpec.epsilon is {self.epsilon}; give a positive number, such as 1e-5")


@dataclasses.dataclass(frozen=True)
class AttentionSpec:
    """One self-attention.

    Attributes:
      heads, kv_heads: query heads and key/value heads (equal: multi-head; 1: multi-query; between: grouped).
      head_dim: per head; need not be embed_dim / heads.
      causal: False lets every position of a segment see every other.
      window: a query sees itself and the window - 1 positions before it (static); None: no limit.
      rope: rotary positions, or None.
      qkv_bias, output_bias: whether those projections have biases.
      qk_norm: normalises queries and keys per head before the rotation.
      logit_softcap: scores become cap * tanh(scores / cap).
      scale: multiplies the scores; None means head_dim ** -0.5.
      alibi: scores fall linearly with distance, at a slope per head (Press et al. 2022).
    """

    heads: int
    kv_heads: int
    head_dim: int
    causal: bool = True
    window: int | None = None
    rope: RopeSpec | None = RopeSpec()
    qkv_bias: bool = False
    output_bias: bool = False
    qk_norm: NormSpec | None = None
    logit_softcap: float | None = None
    scale: float | None = None
    alibi: bool = False

    def __post_init__(self):
        for name in ("heads", "kv_heads", "head_dim"):
            check(getattr(self, name) >= 1, f"AttentionSpec.{name} is {getattr(self, name)}; give at least 1")
        check(
            self.heads % self.kv_heads == 0,
            f"AttentionSpec: {self.heads} heads do not divide over {self.kv_heads} kv_heads; make heads a multiple",
        )
        check(self.window is None or self.window >= 1, f"AttentionSpec.window is {self.window}; give at least 1")
        check(self.window is None or self.causal, "AttentionSpec.window needs causal=True")
        turning = 0 if self.rope is None else self.head_dim if self.rope.dim is None else self.rope.dim
        check(turning % 2 == 0, f"AttentionSpec.head_dim is {self.head_dim}; rotary positions need an even number")
        check(
            turning <= self.head_dim,
            f"AttentionSpec: RopeSpec.dim {turning} is more than head_dim {self.head_dim}",
        )
        check(
            self.rope is None or not self.rope.two_dimensional or turning % 4 == 0,
            f"AttentionSpec.head_dim is {self.head_dim}; two-dimensional rotary positions need a multiple of 4",
        )
        check(
            self.logit_softcap is None or self.logit_softcap > 0,
            f"AttentionSpec.logit_softcap is {self.logit_softcap}; give a positive number or None",
        )


@dataclasses.dataclass(frozen=True)
class MlpSpec:
    """A feed-forward block: down(act(up(x))), or down(act(gate(x)) * up(x)) when gated (Shazeer 2020)."""

    hidden: int
    activation: Activation = "silu"
    gated: bool = True
    bias: bool = False

    def __post_init__(self):
        check(self.hidden >= 1, f"MlpSpec.hidden is {self.hidden}; give at least 1")
        choice(self.activation, ACTIVATIONS, "MlpSpec.activation")


@dataclasses.dataclass(frozen=True)
class MoeSpec:
    """A mixture of feed-forward experts; a token goes to the `top_k` that its router likes best.

    Attributes:
      experts: how many. top_k: per token. mlp: one expert.
      mode: "dropless" computes every choice (sorted by expert, one grouped product); "capacity" gives each expert
        limited room and drops what does not fit (Lepikhin et al. 2021; Fedus et al. 2022). Room is counted per row, so
        that results do not depend on the number of devices; see models/layers/moe.py on documents that share a row.
      per_document: capacity is counted per packed document, which then never loses room to another.
      normalize: chosen probabilities are divided by their sum (Mixtral), or used as they are (Switch).
      capacity_factor: an expert has room for capacity_factor * top_k * length / experts tokens, rounded up.
      capacity: room as a number of tokens instead, whatever the length (Switch as transformers has it).
      balance_weight: of the load-balance loss (Fedus et al. 2022, equation 4), over the tokens of one row, where
        transformers count those of a batch.
      z_weight: of the router z-loss (Zoph et al. 2022, equation 5).
    """

    experts: int
    top_k: int
    mlp: MlpSpec
    mode: Literal["dropless", "capacity"] = "dropless"
    normalize: bool = True
    capacity_factor: float = 1.25
    capacity: int | None = None
    per_document: bool = False
    balance_weight: float = 0.01
    z_weight: float = 0.0

    def __post_init__(self):
        choice(self.mode, ("dropless", "capacity"), "MoeSpec.mode")
        check(self.experts >= 1, f"MoeSpec.experts is {self.experts}; give at least 1")
        check(
            1 <= self.top_k <= self.experts,
            f"MoeSpec.top_k is {self.top_k}; give 1 to {self.experts}, the number of experts",
        )
        check(self.capacity_factor > 0, f"MoeSpec.capacity_factor is {self.capacity_factor}; give a positive number")
        check(self.capacity is None or self.capacity >= 1, f"MoeSpec.capacity is {self.capacity}; give at least 1")
        check(
            self.mode == "capacity" or (self.capacity is None and not self.per_document),
            'MoeSpec.capacity and per_document need mode "capacity"',
        )
        for name in ("balance_weight", "z_weight"):
            check(getattr(self, name) >= 0, f"MoeSpec.{name} is {getattr(self, name)}; give 0 or more")


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """Attention, cross-attention where there is an encoder, and feed-forward, each with a residual.

    Attributes:
      placement: "pre" x + f(norm(x)); "post" norm(x + f(x)); "sandwich" x + norm(f(norm(x))); "normed"
        residual_scale * norm(x) + f(norm(x)) (GLM-6B and BLOOM's option).
      cross_attention: looks at the encoder, between the other two; None: none.
      residual_scale: only for "normed".
    """

    attention: AttentionSpec
    mlp: MlpSpec | MoeSpec
    norm: NormSpec = NormSpec()
    placement: Literal["pre", "post", "sandwich", "normed"] = "pre"
    cross_attention: AttentionSpec | None = None
    residual_scale: float = 1.0

    def __post_init__(self):
        choice(self.placement, ("pre", "post", "sandwich", "normed"), "LayerSpec.placement")
        check(
            self.residual_scale == 1.0 or self.placement == "normed",
            'LayerSpec.residual_scale needs placement "normed"',
        )
        cross = self.cross_attention
        check(
            cross is None or not (cross.causal or cross.rope or cross.alibi),
            "LayerSpec.cross_attention must have causal=False and no positions of its own",
        )


@dataclasses.dataclass(frozen=True)
class LayerGroup:
    """A pattern of layers, repeated; `shared` makes every repeat use the same weights."""

    pattern: tuple[LayerSpec, ...]
    repeats: int = 1
    shared: bool = False

    def __post_init__(self):
        object.__setattr__(self, "pattern", tuple(self.pattern))
        check(len(self.pattern) >= 1, "LayerGroup.pattern is empty; give at least one LayerSpec")
        check(self.repeats >= 1, f"LayerGroup.repeats is {self.repeats}; give at least 1")
