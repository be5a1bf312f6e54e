"""RoBERTa: BERT's structure over bytes' pairs, without token types and next sentences (Liu et al. 2019, section 4).

Rows 0 and 1 of its 514 positions belong to what is before the first token and to padding (padding id 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.bert import Shape, encoder
from t5x_style.models.presets.sizes import Options, choose

PAD_ID = 1
SIZES = {
    "tiny": Shape(64, 256, 2, 4, 1024, 128),
    "base": Shape(768, 3072, 12, 12, 50265),
    "large": Shape(1024, 4096, 24, 16, 50265),
}


def roberta(
    size: str = "base",
    vocab_size: int | None = None,
    tasks: Sequence[parts.TaskHeadSpec] = (),
    vocabulary_head: bool = True,
    **options: Unpack[Options],
) -> parts.EncoderConfig:
    """RoBERTa; `size` is one of SIZES, the other arguments as of `bert`. Its classifiers are of `classification`."""
    shape = choose(SIZES, size, "roberta")
    return encoder(
        shape, vocab_size, tasks, vocabulary_head, options, norm_epsilon=1e-5, types=1, position_offset=PAD_ID + 1
    )


def classification(name: str, labels: Sequence[str]) -> parts.TaskHeadSpec:
    """RoBERTa's classifier: the first token through a dense tanh layer of its own, in place of a pooler."""
    return parts.TaskHeadSpec(name, "classification", tuple(labels), pool="first", transform="tanh")
