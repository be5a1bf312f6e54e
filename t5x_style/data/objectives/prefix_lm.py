"""Prefix language modelling: inputs, then targets, in one decoder row, with the loss on the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np

from t5x_style.data.batches import PREFIX_LM, PREFIX_LM_BIDIRECTIONAL, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixLM(Objective):
    """Instruction tuning and T5's prefix LM. With inputs [5, 6], targets [8, 1], start id 3 and a row of 5:

        decoder_target_tokens    [5, 6, 8, 1, 0]
        decoder_input_tokens     [3, 5, 6, 8, 0]
        decoder_loss_weights     [0, 0, 1, 1, 0]     all 1 on tokens with loss_on_inputs
        decoder_causal_attention [1, 1, 1, 0, 0]     only with bidirectional_prefix: the start id and the inputs

    An example longer than the row loses tokens of its inputs first, on the side `trim_inputs`, then the end of its
    targets; both are counted in `loader.counters()`.

    Attributes:
      inputs, targets: names of the two features.
      loss_on_inputs: also learn to predict the inputs.
      bidirectional_prefix: positions of the prefix see each other in both directions.
      trim_inputs: "left" keeps the end of the inputs, next to the answer; "right" keeps their beginning, as seqio does.
    """

    joinable: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    inputs: str = "inputs"
    targets: str = "targets"
    loss_on_inputs: bool = False
    bidirectional_prefix: bool = False
    trim_inputs: Literal["left", "right"] = "left"

    def __post_init__(self):
        super().__post_init__()
        if self.trim_inputs not in ("left", "right"):
            raise UserError(f"PrefixLM.trim_inputs is {self.trim_inputs!r}, must be 'left' or 'right'")
        if self.loss_on_inputs and self.bidirectional_prefix:
            raise UserError(
                "PrefixLM: loss_on_inputs with bidirectional_prefix would let positions see the tokens they predict; "
                "switch one of them off"
            )

    @property
    def features(self) -> tuple[str, ...]:
        return (self.inputs, self.targets)

    @property
    def required(self) -> tuple[str, ...]:
        return (self.targets,)

    @property
    def spec(self) -> BatchSpec:
        return PREFIX_LM_BIDIRECTIONAL if self.bidirectional_prefix else PREFIX_LM

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:
        bounds = [longest[self.inputs], longest[self.targets]]
        return None in bounds or sum(bound for bound in bounds if bound is not None) + 2 > lengths["decoder"]

    def segments(
        self,
        examples: Sequence[Example],
        lengths: Mapping[str, int],
        ids: Ids,
        rng: np.random.Generator,  # noqa: ARG002 (part of the interface)
    ) -> Iterator[Piece]:
        length = lengths["decoder"]
        for example in examples:
            raw = len(example.features[self.inputs]) + len(example.features[self.targets])
            inputs = ids.ended(self.inputs, example.features[self.inputs])
            targets = ids.ended(self.targets, example.features[self.targets])
            ends = len(inputs) + len(targets) - raw  # tokens that are EOS
            if len(inputs) + len(targets) > length:
                ends -= len(targets) > length and self.targets in ids.append_eos
                targets = targets[:length]
                room = length - len(targets)
                ends -= self.inputs in ids.append_eos and (self.trim_inputs == "right" or not room)
                inputs = inputs[len(inputs) - room :] if self.trim_inputs == "left" else inputs[:room]
            prefix = len(inputs)
            fields = {"decoder_target_tokens": np.concatenate([inputs, targets])}
            if not self.loss_on_inputs:
                weights = np.ones(prefix + len(targets), np.float32)
                weights[:prefix] = 0
                fields["decoder_loss_weights"] = weights
            if self.bidirectional_prefix:
                visible = np.zeros(prefix + len(targets), np.int32)
                visible[: prefix + 1] = 1  # the row is shifted by the start id
                fields["decoder_causal_attention"] = visible
            kept = prefix + len(targets) - ends
            yield Piece(fields, raw=kept, cut=raw - kept)
