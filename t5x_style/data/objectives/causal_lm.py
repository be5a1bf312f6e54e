"""Causal language modelling (GPT, LLaMA): predict every token from those before it in the same segment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from t5x_style.data.batches import CAUSAL_LM, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CausalLM(Objective):
    """Every token is a target, or those of the responses. A document longer than a row becomes consecutive pieces.

    With length 4 the document [5, 6, 7, 8, 9] with EOS 1 gives the pieces [5, 6, 7, 8] and [9, 1]; with start id 3
    their decoder_input_tokens are [3, 5, 6, 7] and [3, 9].

    With response_spans the pieces are as before and the loss is on the spans alone, an EOS counting to a span that ends
    with the document. Spans [1, 2, 4, 5] of that document:

        decoder_target_tokens [5, 6, 7, 8]    decoder_loss_weights [0, 1, 0, 0]
        decoder_target_tokens [9, 1]          decoder_loss_weights [1, 1]

    A piece without a token to learn is left out and its tokens counted as cut.

    With begin="tokenizer" a text begins as the tokenizer itself begins it: with the id it puts in front, or, where it
    puts none (Qwen), with the text's own first token, which is then no target (a text of this token alone is cut):

        decoder_input_tokens [5, 6, 7, 8]     decoder_target_tokens [6, 7, 8, 9]

    Attributes:
      feature: the feature that holds the document.
      response_spans: the feature that holds flat [start, end) pairs of tokens to learn; None: all.
      begin: what a row begins with: "start_id", or as the "tokenizer" begins a text.
    """

    joinable: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    feature: str = "targets"
    response_spans: str | None = None
    begin: Literal["start_id", "tokenizer"] = "start_id"

    def __post_init__(self):
        super().__post_init__()
        if self.begin not in ("start_id", "tokenizer"):
            raise UserError(f"CausalLM.begin is {self.begin!r}, must be 'start_id' or 'tokenizer'")
        if self.begin == "tokenizer" and self.start_id is not None:
            raise UserError("CausalLM: begin='tokenizer' says how a row begins; leave start_id unset")

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,) if self.response_spans is None else (self.feature, self.response_spans)

    @property
    def kinds(self) -> Mapping[str, str]:
        return {} if self.response_spans is None else {self.response_spans: "numbers"}

    @property
    def required(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return CAUSAL_LM

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return self.response_spans is not None

    def segments(
        self,
        examples: Sequence[Example],
        lengths: Mapping[str, int],
        ids: Ids,
        rng: np.random.Generator,  # noqa: ARG002 (part of the interface)
    ) -> Iterator[Piece]:
        length = lengths["decoder"]
        for example in examples:
            raw = example.features[self.feature]
            tokens = ids.ended(self.feature, raw)
            weights = None
            if self.response_spans is not None:
                weights = span_weights(example.features[self.response_spans], len(raw), len(tokens))
            given = self.begin == "tokenizer" and ids.begin is None  # its first token is an input only
            inputs = tokens
            if given:
                tokens, weights = tokens[1:], None if weights is None else weights[1:]
            elif self.begin == "tokenizer":
                inputs = np.append(np.asarray(ids.begin, np.int32), tokens)
            for start in range(0, len(tokens) or given, length):
                # of its last piece all that is left; a first token counts to the first piece
                kept = min(start + length, len(raw) - given) - start + (given and start == 0)
                targets = tokens[start : start + length]
                fields = {"decoder_target_tokens": targets}
                if weights is not None:
                    fields["decoder_loss_weights"] = weights[start : start + length]
                if not len(targets) or (weights is not None and not fields["decoder_loss_weights"].any()):
                    yield Piece({}, cut=max(kept, 0))
                    continue
                if self.begin == "tokenizer":
                    fields["decoder_input_tokens"] = inputs[start : start + len(targets)]
                    if start and not given:
                        fields["decoder_input_tokens"] = np.append(np.asarray(ids.begin, np.int32), targets[:-1])
                yield Piece(fields, raw=max(kept, 0))


def span_weights(spans: np.ndarray, raw: int, length: int) -> np.ndarray:
    """[length] float32: 1 on the tokens of flat [start, end) pairs; an EOS counts to a span that ends before it.

    A span that goes on behind the raw tokens was cut off by the Task's trimming: it has no end to learn.

    >>> span_weights(np.array([1, 2, 4, 5]), 5, 6).tolist()
    [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]
    """
    weights = np.zeros(length, np.float32)
    for start, end in spans.reshape(-1, 2).astype(int).tolist():
        weights[start : length if end == raw else min(end, raw)] = 1
    return weights
