"""XLNet: two-stream relative attention, post-norm (Yang et al. 2019).

Sizes: those of BERT base and large, as released; large is the paper's (section 3.1).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.sizes import Options, choose
from t5x_style.models.specs.xlnet_config import XLNetConfig


class Shape(NamedTuple):
    """A published size."""

    embed_dim: int
    mlp_hidden: int
    layers: int
    heads: int
    vocab_size: int = 32000


SIZES = {
    "tiny": Shape(64, 128, 2, 4, 1024),
    "base": Shape(768, 3072, 12, 12),
    "large": Shape(1024, 4096, 24, 16),
}


# Of the released code and configurations; they also drop numbers of the distances' encodings, which is not done here.
DROPOUT = parts.DropoutSpec(embedding=0.1, residual=0.1, hidden=0.1, attention=0.1, final=0.1)


def xlnet(
    size: str = "base",
    vocab_size: int | None = None,
    memory_length: int | None = None,
    reuse_length: int | None = None,
    bidirectional_data: bool = False,
    vocabulary_head: bool = True,
    tasks: tuple[parts.TaskHeadSpec, ...] = (),
    **options: Unpack[Options],
) -> XLNetConfig:
    """XLNet; `size` is one of SIZES.

    Args:
      vocab_size: None is the published one.
      memory_length, reuse_length, bidirectional_data: see XLNetConfig; as here for fine-tuning. Pretraining with
        segments of 512 had 384 (section 3.1), and in the released code's example 256 and True.
      vocabulary_head: False leaves it out, for models that only have `tasks`.

    Raises:
      UserError: an unknown size.
    """
    shape = choose(SIZES, size, "xlnet")
    settings: dict[str, Any] = {"init": parts.InitSpec(0.02, depth_scaled=False), "dropout": DROPOUT, **options}
    head_dim = shape.embed_dim // shape.heads
    layer = parts.LayerSpec(
        parts.AttentionSpec(shape.heads, shape.heads, head_dim, causal=False, rope=None),
        parts.MlpSpec(shape.mlp_hidden, "gelu", gated=False, bias=True),
        parts.NormSpec("layernorm", 1e-12),
        placement="post",
    )
    return XLNetConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer,), shape.layers),),
        final_norm=None,
        tied_embeddings=True,
        head=parts.HeadSpec(bias=True) if vocabulary_head else None,
        tasks=tasks,
        memory_length=memory_length,
        reuse_length=reuse_length,
        bidirectional_data=bidirectional_data,
        **settings,
    )
