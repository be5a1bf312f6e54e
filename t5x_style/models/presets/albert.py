"""ALBERT: one layer's weights for all layers, and an embedding of 128 columns (Lan et al. 2020, table 1).

Sizes are those of version 2, whose shapes are version 1's and whose pretraining is without dropout (its released
configurations; version 1 had 0.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.bert import Shape, layer, pools
from t5x_style.models.presets.sizes import Options, choose

SIZES = {
    "tiny": Shape(64, 256, 3, 4, 1024, 128),
    "base": Shape(768, 3072, 12, 12, 30000),
    "large": Shape(1024, 4096, 24, 16, 30000),
    "xlarge": Shape(2048, 8192, 24, 16, 30000),
    "xxlarge": Shape(4096, 16384, 12, 64, 30000),
}
_NARROW = {"tiny": 32}


def albert(
    size: str = "base",
    vocab_size: int | None = None,
    tasks: Sequence[parts.TaskHeadSpec] = (),
    vocabulary_head: bool = True,
    **options: Unpack[Options],
) -> parts.EncoderConfig:
    """ALBERT; `size` is one of SIZES, the other arguments as of `bert`; sentence_order() is its pretraining's task."""
    shape = choose(SIZES, size, "albert")
    norm = parts.NormSpec("layernorm", 1e-12)
    settings: dict[str, Any] = {"init": parts.InitSpec(0.02, depth_scaled=False), **options}
    return parts.EncoderConfig(
        vocab_size=shape.vocab_size if vocab_size is None else vocab_size,
        embed_dim=shape.embed_dim,
        segments=(parts.LayerGroup((layer(shape, norm, "gelu_tanh"),), shape.layers, shared=True),),
        final_norm=None,
        tied_embeddings=True,
        head=parts.HeadSpec(bias=True, transform="gelu_tanh", transform_norm=norm) if vocabulary_head else None,
        embedding=parts.EmbeddingSpec(
            dim=_NARROW.get(size, 128),
            types=2,
            positions=parts.PositionSpec("learned", shape.positions),
            norm=norm,
        ),
        tasks=tuple(tasks),
        pooler=pools(tasks),
        **settings,
    )


def sentence_order() -> parts.TaskHeadSpec:
    """The head that tells whether two pieces of text are in order, ALBERT's second task (Lan et al. 2020, 3.1)."""
    return parts.TaskHeadSpec("sentence_order", "sentence_order", pool="pooler")
