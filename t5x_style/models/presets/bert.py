"""BERT: a post-norm encoder with learned positions and token types (Devlin et al. 2019, section 3).

Sizes: base and large of the paper; l2-h128 (BERT-Tiny), mini, small and medium of Turc et al. 2019. All have the
uncased vocabulary; the cased one has 28,996 ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose


class Shape(NamedTuple):
    """A published size."""

    embed_dim: int
    mlp_hidden: int
    layers: int
    heads: int
    vocab_size: int = 30522
    positions: int = 512


SIZES = {
    "tiny": Shape(64, 256, 2, 4, 1024, 128),
    "l2-h128": Shape(128, 512, 2, 2),
    "mini": Shape(256, 1024, 4, 4),
    "small": Shape(512, 2048, 4, 8),
    "medium": Shape(512, 2048, 8, 8),
    "base": Shape(768, 3072, 12, 12),
    "large": Shape(1024, 4096, 24, 16),
}


# On all layers (Devlin et al. 2019, appendix A.2), and so in the released configurations of RoBERTa and SpanBERT.
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, attention=0.1)


def bert(
    size: str = "base",
    vocab_size: int | None = None,
    tasks: Sequence[parts.TaskHeadSpec | parts.SpanBoundarySpec] = (),
    vocabulary_head: bool = True,
    **options: Unpack[Options],
) -> parts.EncoderConfig:
    """BERT; `size` is one of SIZES.

    Args:
      vocab_size: None is the published one.
      tasks: heads beside or instead of the masked-LM head; next_sentence() is that of pretraining. The encoder gets a
        pooler where one of them takes it.
      vocabulary_head: False leaves the masked-LM head out.

    Raises:
      UserError: an unknown size, or tasks that do not fit together.
    """
    shape = choose(SIZES, size, "bert")
    return encoder(shape, vocab_size, tasks, vocabulary_head, options)


def next_sentence() -> parts.TaskHeadSpec:
    """The head that tells whether sentence B follows A, BERT's second pretraining task (Devlin et al. 2019, 3.1)."""
    return parts.TaskHeadSpec("next_sentence", "next_sentence", pool="pooler")


def encoder(
    shape: Shape,
    vocab_size: int | None,
    tasks: Sequence[parts.TaskHeadSpec | parts.SpanBoundarySpec],
    vocabulary_head: bool,
    options: Options,
    *,
    norm_epsilon: float = 1e-12,
    types: int = 2,
    position_offset: int = 0,
) -> parts.EncoderConfig:
    """An encoder of BERT's structure; what differs between BERT, RoBERTa and SpanBERT is an argument.

    Args:
      types: rows of the token types' table. position_offset: rows of the positions' table before position 0.
    """
    norm = parts.NormSpec("layernorm", norm_epsilon)
    settings: dict[str, Any] = {"init": parts.InitSpec(0.02, depth_scaled=False), "dropout": DROPOUT, **options}
    positions = parts.PositionSpec("learned", shape.positions + position_offset, position_offset)
    return parts.EncoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer(shape, norm, "gelu"),), shape.layers),),
        final_norm=None,
        tied_embeddings=True,
        head=parts.HeadSpec(bias=True, transform="gelu", transform_norm=norm) if vocabulary_head else None,
        embedding=parts.EmbeddingSpec(types=types, positions=positions, norm=norm),
        tasks=tuple(tasks),
        pooler=pools(tasks),
        **settings,
    )


def layer(shape: Shape, norm: parts.NormSpec, activation: parts.Activation) -> parts.LayerSpec:
    """One post-norm layer with biases everywhere."""
    attention = parts.AttentionSpec(
        shape.heads,
        shape.heads,
        shape.embed_dim // shape.heads,
        causal=False,
        rope=None,
        qkv_bias=True,
        output_bias=True,
    )
    mlp = parts.MlpSpec(shape.mlp_hidden, activation, gated=False, bias=True)
    return parts.LayerSpec(attention, mlp, norm, placement="post")


def pools(tasks: Sequence[parts.TaskHeadSpec | parts.SpanBoundarySpec]) -> bool:
    """Whether a task takes the encoder's pooler."""
    return any(isinstance(task, parts.TaskHeadSpec) and task.pool == "pooler" for task in tasks)
