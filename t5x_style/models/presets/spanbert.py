"""SpanBERT: BERT over the cased vocabulary, trained on masked spans and their ends (Joshi et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.bert import Shape, encoder
from t5x_style.models.presets.sizes import Options, choose

SIZES = {
    "tiny": Shape(64, 256, 2, 4, 1024, 128),
    "base": Shape(768, 3072, 12, 12, 28996),
    "large": Shape(1024, 4096, 24, 16, 28996),
}


def spanbert(
    size: str = "base",
    vocab_size: int | None = None,
    tasks: Sequence[parts.TaskHeadSpec | parts.SpanBoundarySpec] | None = None,
    vocabulary_head: bool = True,
    **options: Unpack[Options],
) -> parts.EncoderConfig:
    """SpanBERT; `size` is one of SIZES, the other arguments as of `bert`.

    Args:
      tasks: None: the span-boundary objective beside the masked-LM head, as in pretraining. Files of Hugging Face have
        neither; such a model is spanbert(size, tasks=(), vocabulary_head=False).
    """
    shape = choose(SIZES, size, "spanbert")
    position_dim = 200 if shape.embed_dim > 64 else 16
    own = (parts.SpanBoundarySpec(position_dim=position_dim),) if tasks is None else tasks
    return encoder(shape, vocab_size, own, vocabulary_head, options)
