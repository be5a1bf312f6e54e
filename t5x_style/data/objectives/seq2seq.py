"""Sequence to sequence: a text in the encoder, what it should become in the decoder (translation, T5's tasks)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.batches import ENCODER_DECODER, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seq2Seq(Objective):
    """Inputs to the encoder, targets to the decoder; the loss is on the targets. Inputs [5, 6, 1], targets [8, 1]:

        encoder_input_tokens   [5, 6, 1]
        decoder_target_tokens  [8, 1]

    Both are cut at their end where they are longer than their rows, EOS and all, as T5 does; it is counted. An example
    without inputs has an EOS in the encoder (padding where the vocabulary has none), so that there is something to see.

    Attributes:
      inputs, targets: names of the two features.
    """

    inputs: str = "inputs"
    targets: str = "targets"

    @property
    def features(self) -> tuple[str, ...]:
        return (self.inputs, self.targets)

    @property
    def required(self) -> tuple[str, ...]:
        return (self.targets,)

    @property
    def spec(self) -> BatchSpec:
        return ENCODER_DECODER

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:
        inputs, targets = longest[self.inputs], longest[self.targets]
        return inputs is None or targets is None or inputs > lengths["encoder"] or targets > lengths["decoder"]

    def segments(
        self,
        examples: Sequence[Example],
        lengths: Mapping[str, int],
        ids: Ids,
        rng: np.random.Generator,  # noqa: ARG002 (part of the interface)
    ) -> Iterator[Piece]:
        for example in examples:
            inputs, targets = example.features[self.inputs], example.features[self.targets]
            kept = min(len(inputs), lengths["encoder"]) + min(len(targets), lengths["decoder"])
            encoder = ids.ended(self.inputs, inputs)[: lengths["encoder"]]
            if not len(encoder):
                encoder = np.array([ids.pad if ids.eos is None else ids.eos], np.int32)
            fields = {
                "encoder_input_tokens": encoder,
                "decoder_target_tokens": ids.ended(self.targets, targets)[: lengths["decoder"]],
            }
            yield Piece(fields, raw=kept, cut=len(inputs) + len(targets) - kept)
