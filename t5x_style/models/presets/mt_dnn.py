"""MT-DNN: one BERT under the heads of all GLUE tasks (Liu et al. 2019, "Multi-Task Deep Neural Networks", section 3).

Pairs are classified from the pooled first token, as single sentences are; the paper's stochastic answer network, which
reads a pair several times, is not built.
"""

from __future__ import annotations

from typing import Unpack

from t5x_style.models import specs as parts
from t5x_style.models.presets.bert import SIZES, encoder
from t5x_style.models.presets.sizes import Options, choose


def _classes(name: str, *labels: str) -> parts.TaskHeadSpec:
    return parts.TaskHeadSpec(name, "classification", labels, pool="pooler")


GLUE = (
    _classes("cola", "unacceptable", "acceptable"),
    _classes("sst2", "negative", "positive"),
    _classes("mrpc", "not_equivalent", "equivalent"),
    _classes("qqp", "not_duplicate", "duplicate"),
    _classes("mnli", "entailment", "neutral", "contradiction"),
    _classes("rte", "entailment", "not_entailment"),
    _classes("wnli", "not_entailment", "entailment"),
    parts.TaskHeadSpec("stsb", "regression", ("similarity",), pool="pooler"),
    # pairs of one question are ranked by a score each (section 3, relevance ranking)
    parts.TaskHeadSpec("qnli", "choice", pool="pooler"),
)


def mt_dnn(
    size: str = "base",
    vocab_size: int | None = None,
    tasks: tuple[parts.TaskHeadSpec, ...] = GLUE,
    **options: Unpack[Options],
) -> parts.EncoderConfig:
    """MT-DNN; `size` is one of BERT's SIZES (the paper's are base and large). vocab_size: None is the published one."""
    shape = choose(SIZES, size, "mt_dnn")
    return encoder(shape, vocab_size, tasks, False, options)
