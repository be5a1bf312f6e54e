"""Specs of task heads: what a model answers besides the next or the masked token; re-exported by models/specs/."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from t5x_style.models.specs.checks import check, choice
from t5x_style.models.specs.layer_specs import ACTIVATIONS, Activation, NormSpec

TaskKind = Literal[
    "classification",
    "multi_label",
    "regression",
    "choice",
    "reward",
    "next_sentence",
    "sentence_order",
    "span",
    "tags",
]
Pool = Literal["first", "pooler", "last"]
TOKEN_KINDS: tuple[TaskKind, ...] = ("span", "tags")
_LABELLED: tuple[TaskKind, ...] = ("classification", "multi_label", "regression", "tags")
_FIXED: dict[str, tuple[str, ...]] = {
    "next_sentence": ("is_next", "not_next"),
    "sentence_order": ("in_order", "swapped"),
    "span": ("start", "end"),
}


@dataclasses.dataclass(frozen=True)
class TaskHeadSpec:
    """One head over the hidden states, at `model.tasks[name]`.

        kind            logits of hidden [B, L, embed]
        classification  [B, labels], softmax; a pair is one sequence whose parts differ in their token types
        multi_label     [B, labels], a sigmoid each
        regression      [B], or [B, labels] with several targets
        choice          [B, C] of hidden [B, C, L, embed]: softmax over the choices
        reward          [B]
        next_sentence   [B, 2]: the second part follows the first, or is from elsewhere (Devlin et al. 2019)
        sentence_order  [B, 2]: the parts are in order, or swapped (Lan et al. 2020)
        span            [B, L, 2]: an answer starts, and ends, at a token (decoding/answer_spans.py)
        tags            [B, L, labels]: a tag per token, such as IOBES (decoding/tags.py)

    Attributes:
      name: key in `model.tasks`, an identifier.
      kind: see above.
      labels: names in the order of their ids: of classes, tags or regression targets; a reward may be named, the other
        kinds have fixed labels and take none.
      pool: which hidden state the kinds of one answer a sequence take: the first token's, the first token's through the
        encoder's pooler, or the last token's; None for span and tags.
      transform: a dense layer of the model's width before the scores, by its activation (RoBERTa: tanh); None: none.
      bias: of the scores.
    """

    name: str
    kind: TaskKind
    labels: tuple[str, ...] = ()
    pool: Pool | None = None
    transform: Activation | None = None
    bias: bool = True

    def __post_init__(self):
        object.__setattr__(self, "labels", tuple(self.labels))
        _check_name(self.name, "TaskHeadSpec")
        choice(self.kind, get_args(TaskKind), "TaskHeadSpec.kind")
        where = f"TaskHeadSpec {self.name!r}"
        if self.kind in TOKEN_KINDS:
            check(self.pool is None, f"{where}: kind {self.kind} answers for every token; give pool=None")
        else:
            choice(str(self.pool), get_args(Pool), f"{where}: pool")
        needed = self.kind in _LABELLED
        fewest = 2 if self.kind == "classification" else 1 if needed else 0
        check(
            len(self.labels) >= fewest,
            f"{where}: kind {self.kind} has {len(self.labels)} labels, the names of its outputs; give {fewest} or more",
        )
        most = 1 if self.kind == "reward" else 0
        check(needed or len(self.labels) <= most, f"{where}: kind {self.kind} takes at most {most} labels")
        check(
            self.transform is None or self.transform in ACTIVATIONS,
            f"{where}: transform is {self.transform!r}; choose one of {', '.join(ACTIVATIONS)} or None",
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the outputs: the labels, or the kind's own; () for choice and an unnamed reward."""
        return _FIXED.get(self.kind, self.labels)

    @property
    def outputs(self) -> int:
        """How many numbers the head gives for each hidden state it takes."""
        return len(self.label_names) or 1

    @property
    def scalar(self) -> bool:
        """Whether logits have no dimension of outputs."""
        return self.kind in ("choice", "reward") or (self.kind == "regression" and self.outputs == 1)


@dataclasses.dataclass(frozen=True)
class SpanBoundarySpec:
    """SpanBERT's head: a masked token from the two tokens beside its span and its place in it (Joshi et al. 2020, 3.2).

    Attributes:
      name: key in `model.tasks`, an identifier.
      max_span: most tokens of a span; positions inside a span are learned.
      position_dim: width of those positions.
      activation, norm: after both dense layers.
      bias: one number a vocabulary id, beside the embedding table, which gives the scores.
    """

    name: str = "span_boundary"
    max_span: int = 20
    position_dim: int = 200
    activation: Activation = "gelu"
    norm: NormSpec = NormSpec("layernorm", 1e-12)
    bias: bool = True

    def __post_init__(self):
        _check_name(self.name, "SpanBoundarySpec")
        for field in ("max_span", "position_dim"):
            check(getattr(self, field) >= 1, f"SpanBoundarySpec.{field} is {getattr(self, field)}; give at least 1")
        choice(self.activation, ACTIVATIONS, "SpanBoundarySpec.activation")


def _check_name(name: str, where: str) -> None:
    # names are keys of an nnx.Dict, which sets them as attributes beside its methods
    fits = isinstance(name, str) and name.isidentifier() and not name.startswith("_") and not hasattr(dict, name)
    check(fits, f"{where}.name is {name!r}; give an identifier such as mnli, and no method's name of a dict")
