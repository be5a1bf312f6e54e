"""Model configurations: frozen dataclasses of small parts, checked when built, equal and hashable by value.

A trunk is a tuple of segments; a segment is a pattern of layers and how often it repeats. Examples:

    LLaMA            Segment((layer,), repeats=32)
    5 local, 1 wide  Segment((local,) * 5 + (wide,), repeats=4), Segment((local,), repeats=2)
    one shared layer Segment((layer,), repeats=12, shared=True)
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax.numpy as jnp

from t5x_style.errors import UserError

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "tanh"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
DTYPES = ("float32", "bfloat16", "float16")


def check(condition: bool, message: str) -> None:
    """Raises UserError with `message` unless the condition holds."""
    if not condition:
        raise UserError(message)


def _choice(value: str, choices: tuple[str, ...], what: str) -> None:
    check(value in choices, f"{what} is {value!r}; choose one of {', '.join(choices)}")


@dataclasses.dataclass(frozen=True)
class DtypePolicy:
    """Which number format each part of a model uses.

    Attributes:
      params: stored parameters. compute: inputs and outputs of matrices. softmax: attention weights before
      the value product. logits: vocabulary scores and everything of the loss. reductions: norm statistics.
    """

    params: str = "float32"
    compute: str = "float32"
    softmax: str = "float32"
    logits: str = "float32"
    reductions: str = "float32"

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _choice(getattr(self, field.name), DTYPES, f"DtypePolicy.{field.name}")

    def dtype(self, part: str) -> jnp.dtype:
        """The dtype of one part, such as `policy.dtype("compute")`."""
        return jnp.dtype(getattr(self, part))


FLOAT32 = DtypePolicy()


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretches rotary frequencies for longer contexts.

    Attributes:
      kind: "linear" divides every frequency by `factor` (Chen et al. 2023); "dynamic" raises the base once a sequence
        is longer than `original_length` (NTK-aware); "llama3" divides long wavelengths by `factor`, keeps short ones
        and blends between (LLaMA 3.1 release); "yarn" blends by dimension and scales the scores (Peng et al. 2023).
      factor: at least 1.
      low_frequency_factor, high_frequency_factor: llama3 only; wavelengths above original_length / low are divided,
        below original_length / high kept.
      original_length: of the sequences that the model was trained on (all kinds but linear).
      beta_fast, beta_slow: yarn only; dimensions that turn more than beta_fast times within original_length are kept,
        fewer than beta_slow times divided.
      attention_factor: yarn only; multiplies cosines and sines. None: 0.1 ln(factor) + 1.
      round_limits: yarn only; whether the limits between the dimensions are rounded outwards, as the release does.
    """

    kind: Literal["linear", "dynamic", "llama3", "yarn"] = "linear"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    round_limits: bool = True

    def __post_init__(self):
        _choice(self.kind, ("linear", "dynamic", "llama3", "yarn"), "RopeScaling.kind")
        check(self.factor >= 1, f"RopeScaling.factor is {self.factor}; give at least 1")
        check(
            self.kind != "llama3" or 0 < self.low_frequency_factor < self.high_frequency_factor,
            f"RopeScaling: low_frequency_factor {self.low_frequency_factor} must be positive and below "
            f"high_frequency_factor {self.high_frequency_factor}",
        )
        check(
            self.kind != "yarn" or 0 < self.beta_slow <= self.beta_fast,
            f"RopeScaling: beta_slow {self.beta_slow} must be positive and at most beta_fast {self.beta_fast}",
        )
        check(
            self.original_length >= 1, f"RopeScaling.original_length is {self.original_length}; give a positive number"
        )


@dataclasses.dataclass(frozen=True)
class RopeSpec:
    """Rotary positions (Su et al. 2021).

    Attributes:
      base: theta. scaling: stretches the frequencies.
      dim: how many dimensions of a head turn, the first ones; None: all.
      interleaved: dimensions 2i and 2i + 1 turn together (GLM 2 and later), not i and i + dim / 2 (LLaMA).
      two_dimensional: half of the turning dimensions follow the position, the other half the position within the
        block that is being filled in (GLM, Du et al. 2022, section 2.1); positions are then [B, L, 2].
    """

    base: float = 10000.0
    scaling: RopeScaling | None = None
    dim: int | None = None
    interleaved: bool = False
    two_dimensional: bool = False

    def __post_init__(self):
        check(self.base > 1, f"RopeSpec.base is {self.base}; give a number above 1, such as 10000.0")
        check(
            self.dim is None or (self.dim >= 2 and self.dim % 2 == 0),
            f"RopeSpec.dim is {self.dim}; give an even number of dimensions, or None for all",
        )


@dataclasses.dataclass(frozen=True)
class RelativeBiasSpec:
    """T5's bias on scores, learned per bucket of distances, shared by all layers (Raffel et al. 2020, section 2.1).

    Attributes:
      buckets: half of them exact distances, the others logarithmic up to max_distance.
      bidirectional: half of the buckets are for keys behind the query (encoders).
    """

    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False

    def __post_init__(self):
        smallest = 4 if self.bidirectional else 2
        check(
            self.buckets >= smallest and self.buckets % smallest == 0,
            f"RelativeBiasSpec.buckets is {self.buckets}; give a multiple of {smallest}",
        )
        check(
            self.max_distance > self.buckets // smallest,
            f"RelativeBiasSpec.max_distance is {self.max_distance}; give more than {self.buckets // smallest}",
        )


@dataclasses.dataclass(frozen=True)
class PositionSpec:
    """Positions added to the embeddings.

    Attributes:
      kind: "learned" rows of a table, or "sinusoidal" (Vaswani et al. 2017, section 3.5).
      length: rows of the table. offset: added to every position (RoBERTa counts from 2).
    """

    kind: Literal["learned", "sinusoidal"] = "learned"
    length: int = 512
    offset: int = 0

    def __post_init__(self):
        _choice(self.kind, ("learned", "sinusoidal"), "PositionSpec.kind")
        check(self.length >= 1, f"PositionSpec.length is {self.length}; give at least 1")
        check(self.offset >= 0, f"PositionSpec.offset is {self.offset}; give 0 or more")


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
        _choice(self.kind, ("rmsnorm", "layernorm"), "NormSpec.kind")
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
        _choice(self.activation, ACTIVATIONS, "MlpSpec.activation")


@dataclasses.dataclass(frozen=True)
class MoeSpec:
    """A mixture of feed-forward experts; a token goes to the `top_k` that its router likes best.

    Attributes:
      experts: how many. top_k: per token. mlp: one expert.
      mode: "dropless" computes every choice (sorted by expert, one grouped product); "capacity" gives each expert
        room for capacity_factor * top_k * length / experts tokens of each row and drops what does not fit (Lepikhin
        et al. 2021; Fedus et al. 2022), counted per row so that results do not depend on the number of devices.
      normalize: chosen probabilities are divided by their sum (Mixtral), or used as they are (Switch).
      capacity_factor: see `mode`.
      balance_weight: of the load-balance loss (Fedus et al. 2022, equation 4).
      z_weight: of the router z-loss (Zoph et al. 2022, equation 5).
    """

    experts: int
    top_k: int
    mlp: MlpSpec
    mode: Literal["dropless", "capacity"] = "dropless"
    normalize: bool = True
    capacity_factor: float = 1.25
    balance_weight: float = 0.01
    z_weight: float = 0.0

    def __post_init__(self):
        _choice(self.mode, ("dropless", "capacity"), "MoeSpec.mode")
        check(self.experts >= 1, f"MoeSpec.experts is {self.experts}; give at least 1")
        check(
            1 <= self.top_k <= self.experts,
            f"MoeSpec.top_k is {self.top_k}; give 1 to {self.experts}, the number of experts",
        )
        check(self.capacity_factor > 0, f"MoeSpec.capacity_factor is {self.capacity_factor}; give a positive number")
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
        _choice(self.placement, ("pre", "post", "sandwich", "normed"), "LayerSpec.placement")
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
class Segment:
    """A pattern of layers, repeated; `shared` makes every repeat use the same weights."""

    pattern: tuple[LayerSpec, ...]
    repeats: int = 1
    shared: bool = False

    def __post_init__(self):
        object.__setattr__(self, "pattern", tuple(self.pattern))
        check(len(self.pattern) >= 1, "Segment.pattern is empty; give at least one LayerSpec")
        check(self.repeats >= 1, f"Segment.repeats is {self.repeats}; give at least 1")


@dataclasses.dataclass(frozen=True)
class EmbeddingSpec:
    """What is done between the token table and the first layer, in this order.

    Attributes:
      dim: columns of the token table; None: embed_dim. Another size is projected to it (factorised, Lan et al. 2020).
      types: rows of a table of token types (BERT's sentences A and B), 0: none.
      positions: added to the embeddings, None: none.
      norm: after all of them, None: none.
    """

    dim: int | None = None
    types: int = 0
    positions: PositionSpec | None = None
    norm: NormSpec | None = None

    def __post_init__(self):
        check(self.dim is None or self.dim >= 1, f"EmbeddingSpec.dim is {self.dim}; give at least 1")
        check(self.types >= 0, f"EmbeddingSpec.types is {self.types}; give 0 or more")


@dataclasses.dataclass(frozen=True)
class HeadSpec:
    """Vocabulary scores: scale * (hidden @ table + bias), then cap * tanh(. / cap).

    Attributes:
      bias: one number a vocabulary id.
      scale, softcap: None: none.
      transform: the masked-LM heads' dense layer before the table, by its activation; None: none. It ends in
        `transform_norm`.
      normalized: rows of the table are divided by their length (Baichuan 2).
    """

    bias: bool = False
    scale: float | None = None
    softcap: float | None = None
    transform: Activation | None = None
    transform_norm: NormSpec | None = None
    normalized: bool = False

    def __post_init__(self):
        check(
            self.softcap is None or self.softcap > 0,
            f"HeadSpec.softcap is {self.softcap}; give a positive number or None",
        )
        check(
            self.transform is None or self.transform in ACTIVATIONS,
            f"HeadSpec.transform is {self.transform!r}; choose one of {', '.join(ACTIVATIONS)} or None",
        )
        check(self.transform_norm is None or self.transform is not None, "HeadSpec.transform_norm needs a transform")


@dataclasses.dataclass(frozen=True)
class InitSpec:
    """Initial weights.

    Attributes:
      stddev: of every matrix and the embedding; None: fan_in ** -0.5 for matrices (LeCun et al. 1998) and
        embed_dim ** -0.5 for the embedding.
      depth_scaled: the two projections into the residual are divided by sqrt(2 * layers)
        (Radford et al. 2019, section 2.3).
    """

    stddev: float | None = None
    depth_scaled: bool = True

    def __post_init__(self):
        check(self.stddev is None or self.stddev > 0, f"InitSpec.stddev is {self.stddev}; give a positive number")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """What decoders and encoders have in common: one stack of layers over a token embedding.

    Attributes:
      vocab_size: ids the tokenizer can give. vocab_multiple: the table is padded to a multiple of it, so that
        it shards; padded ids get logits of -1e9 and are never sampled.
      embed_dim: width of the residual.
      segments: the trunk.
      final_norm: after the last layer; None for post-norm trunks.
      tied_embeddings: the head uses the embedding table.
      embedding_scale: multiplies the embeddings; None: no scaling.
      remat: what the backward pass recomputes, per layer: "none" keeps all, "dots" keeps matrix products,
        "full" keeps only the layer's input.
      scan: one compiled layer run in a loop; False unrolls (faster to run on CPU, compile time grows with depth).
        Parameters are stacked either way.
      embedding: positions, token types, norm of the embedding, and its own width.
      relative_bias: T5's, one for the whole trunk.
    """

    vocab_size: int
    embed_dim: int
    segments: tuple[Segment, ...]
    vocab_multiple: int = 128
    final_norm: NormSpec | None = NormSpec()
    tied_embeddings: bool = False
    embedding_scale: float | None = None
    head: HeadSpec = HeadSpec()
    init: InitSpec = InitSpec()
    remat: Literal["none", "full", "dots"] = "full"
    scan: bool = True
    embedding: EmbeddingSpec = EmbeddingSpec()
    relative_bias: RelativeBiasSpec | None = None

    def __post_init__(self):
        name = type(self).__name__
        object.__setattr__(self, "segments", tuple(self.segments))
        for field in ("vocab_size", "embed_dim", "vocab_multiple"):
            check(getattr(self, field) >= 1, f"{name}.{field} is {getattr(self, field)}; give at least 1")
        check(len(self.segments) >= 1, f"{name}.segments is empty; give at least one Segment")
        _choice(self.remat, ("none", "full", "dots"), f"{name}.remat")
        width = self.embedding.dim
        check(
            width in (None, self.embed_dim) or not self.tied_embeddings or self.head.transform is not None,
            f"{name}: a tied head over an embedding of {width} needs HeadSpec.transform, which projects to it",
        )
        check(
            self.relative_bias is None or len({layer.attention.heads for layer in self.layers}) == 1,
            f"{name}.relative_bias needs the same number of heads in all layers",
        )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table: vocab_size rounded up to a multiple of vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """Every layer in the order it runs, patterns unrolled."""
        return tuple(layer for segment in self.segments for layer in segment.pattern * segment.repeats)


@dataclasses.dataclass(frozen=True)
class DecoderConfig(TransformerConfig):
    """A decoder-only language model; see TransformerConfig."""

    def __post_init__(self):
        super().__post_init__()
        check(
            all(layer.cross_attention is None for layer in self.layers),
            "DecoderConfig: cross_attention needs an encoder; use EncoderDecoderConfig",
        )


@dataclasses.dataclass(frozen=True)
class EncoderConfig(TransformerConfig):
    """An encoder that sees both ways, with a masked-language-model head; see TransformerConfig.

    Attributes:
      pooler: a dense tanh layer over the first position, for sentence-level heads (BERT).
    """

    pooler: bool = False

    def __post_init__(self):
        super().__post_init__()
        check(
            all(layer.cross_attention is None and not layer.attention.causal for layer in self.layers),
            "EncoderConfig: its layers need causal=False and no cross_attention",
        )


@dataclasses.dataclass(frozen=True)
class EncoderDecoderConfig:
    """An encoder and a decoder that looks at it, over one token embedding (T5).

    Attributes:
      encoder, decoder: their stacks; vocabulary, width and init must be equal, the embedding and the head are the
        decoder's, the encoder's own head and embedding settings are not used.
    """

    encoder: EncoderConfig
    decoder: TransformerConfig

    def __post_init__(self):
        for field in ("vocab_size", "vocab_multiple", "embed_dim", "init"):
            ours, theirs = getattr(self.encoder, field), getattr(self.decoder, field)
            check(ours == theirs, f"EncoderDecoderConfig: encoder.{field} is {ours}, decoder.{field} is {theirs}")
        check(
            all(layer.cross_attention is not None for layer in self.decoder.layers),
            "EncoderDecoderConfig: every decoder layer needs cross_attention",
        )

    @property
    def vocab_size(self) -> int:
        """Ids the tokenizer can give."""
        return self.decoder.vocab_size

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table."""
        return self.decoder.padded_vocab_size

    @property
    def embed_dim(self) -> int:
        """Width of the residual."""
        return self.decoder.embed_dim
