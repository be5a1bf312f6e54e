"""Model configurations: frozen dataclasses of small parts, checked when built, equal and hashable by value.

A trunk is a tuple of layer groups; a group is a pattern of layers and how often it repeats. Examples:

    LLaMA            LayerGroup((layer,), repeats=32)
    5 local, 1 wide  LayerGroup((local,) * 5 + (wide,), repeats=4), LayerGroup((local,), repeats=2)
    one shared layer LayerGroup((layer,), repeats=12, shared=True)
"""

from __future__ import annotations

import dataclasses

from t5x_style.models.specs.checks import check
from t5x_style.models.specs.dropout import NO_DROPOUT, DropoutSpec
from t5x_style.models.specs.head_specs import SpanBoundarySpec, TaskHeadSpec
from t5x_style.models.specs.layer_specs import (
    ACTIVATIONS,
    Activation,
    LayerGroup,
    LayerSpec,
    NormSpec,
)
from t5x_style.models.specs.position_specs import PositionSpec, RelativeBiasSpec


@dataclasses.dataclass(frozen=True)
class EmbeddingSpec:
    """What is done between the token table and the first layer, in this order.

    Attributes:
      dim: columns of the token table, projected to embed_dim (factorised, Lan et al. 2020); None: embed_dim columns
        and no projection.
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
      segments: the trunk, as layer groups (the name that stands in model.json).
      final_norm: after the last layer; None for post-norm trunks.
      tied_embeddings: the head uses the embedding table.
      embedding_scale: multiplies the embeddings; None: no scaling.
      embedding: positions, token types, norm of the embedding, and its own width.
      relative_bias: T5's, one for the whole trunk.
      head: vocabulary scores; None: the model has none, and neither a table of its own for them.
      tasks: other heads over the same hidden states, see `model.tasks`; several may share one trunk (Liu et al. 2019,
        MT-DNN).
      dropout: at random in training; no part of what the parameters are.
    """

    vocab_size: int
    embed_dim: int
    segments: tuple[LayerGroup, ...]
    vocab_multiple: int = 128
    final_norm: NormSpec | None = NormSpec()
    tied_embeddings: bool = False
    embedding_scale: float | None = None
    head: HeadSpec | None = HeadSpec()
    init: InitSpec = InitSpec()
    embedding: EmbeddingSpec = EmbeddingSpec()
    relative_bias: RelativeBiasSpec | None = None
    tasks: tuple[TaskHeadSpec | SpanBoundarySpec, ...] = ()
    dropout: DropoutSpec = NO_DROPOUT

    def __post_init__(self):
        name = type(self).__name__
        object.__setattr__(self, "segments", tuple(self.segments))
        object.__setattr__(self, "tasks", tuple(self.tasks))
        for field in ("vocab_size", "embed_dim", "vocab_multiple"):
            check(getattr(self, field) >= 1, f"{name}.{field} is {getattr(self, field)}; give at least 1")
        check(len(self.segments) >= 1, f"{name}.segments is empty; give at least one LayerGroup")
        width = self.embedding.dim
        check(
            width in (None, self.embed_dim)
            or not self.tied_embeddings
            or self.head is None
            or self.head.transform is not None,
            f"{name}: a tied head over an embedding of {width} needs HeadSpec.transform, which projects to it",
        )
        check(
            self.relative_bias is None or len({layer.attention.heads for layer in self.layers}) == 1,
            f"{name}.relative_bias needs the same number of heads in all layers",
        )
        names = [task.name for task in self.tasks]
        check(len(set(names)) == len(names), f"{name}.tasks: names are {', '.join(names)}; give each task its own")
        pooling = [task.name for task in self.tasks if isinstance(task, TaskHeadSpec) and task.pool == "pooler"]
        check(
            not pooling or getattr(self, "pooler", False),
            f"{name}.tasks: {', '.join(pooling)} has pool='pooler', which needs EncoderConfig(pooler=True)",
        )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding table: vocab_size rounded up to a multiple of vocab_multiple."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """Every layer in the order it runs, patterns unrolled."""
        return tuple(layer for group in self.segments for layer in group.pattern * group.repeats)


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
      pooler: a dense tanh layer over the first position, for heads with pool="pooler" (BERT).
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
        decoder's, the encoder's own head and embedding settings are not used; tasks are the decoder's too.
    """

    encoder: EncoderConfig
    decoder: TransformerConfig

    def __post_init__(self):
        for field in ("vocab_size", "vocab_multiple", "embed_dim", "init"):
            ours, theirs = getattr(self.encoder, field), getattr(self.decoder, field)
            check(ours == theirs, f"EncoderDecoderConfig: encoder.{field} is {ours}, decoder.{field} is {theirs}")
        ours, theirs = self.encoder.dropout.embedding, self.decoder.dropout.embedding
        check(ours == theirs, f"EncoderDecoderConfig: encoder.dropout.embedding is {ours}, the decoder's is {theirs}")
        check(not self.encoder.tasks, "EncoderDecoderConfig: task heads see the decoder; give them as decoder.tasks")
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
