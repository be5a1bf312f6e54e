"""Preference pairs (DPO, reward models): a prompt with the answer people preferred, and with the other one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.batches import PAIRS, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferencePairs(Objective):
    """A piece of two segments, the preferred answer first; the loss is on the answers, the prompt stands in both.

    Prompt [7], chosen [8, 9], rejected [4], without EOS (one stands behind an answer where its Task wants it):

        decoder_target_tokens  [7, 8, 9, 7, 4]
        decoder_loss_weights   [0, 1, 1, 0, 1]
        decoder_parts          [3, 2]

    Where both do not fit a row, the prompt loses tokens at its beginning, the same in both, and once it is empty the
    answers at their ends, the longer one first. A prompt counts once as tokens of the cache.

    Attributes:
      prompt, chosen, rejected: names of the three features.
      pairs: most pairs of a row, as the loss has them (`DPO.pairs`); None: as many as fit.
    """

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    pairs: int | None = 1

    def __post_init__(self):
        super().__post_init__()
        if self.pairs is not None and self.pairs < 1:
            raise UserError(f"PreferencePairs.pairs is {self.pairs}, must be at least 1, or None")

    @property
    def features(self) -> tuple[str, ...]:
        return (self.prompt, self.chosen, self.rejected)

    @property
    def required(self) -> tuple[str, ...]:
        return (self.chosen, self.rejected)

    @property
    def spec(self) -> BatchSpec:
        return dataclasses.replace(PAIRS, max_segments=None if self.pairs is None else 2 * self.pairs)

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:
        bounds = [longest[name] for name in (self.prompt, *self.features)]  # the prompt stands in both
        return None in bounds or sum(bound for bound in bounds if bound is not None) + 4 > lengths["decoder"]

    def segments(
        self,
        examples: Sequence[Example],
        lengths: Mapping[str, int],
        ids: Ids,
        rng: np.random.Generator,  # noqa: ARG002 (part of the interface)
    ) -> Iterator[Piece]:
        row = lengths["decoder"]
        for example in examples:
            texts = [example.features[name] for name in self.features]
            prompt, chosen, rejected = (ids.ended(name, text) for name, text in zip(self.features, texts))
            lost = 0
            if (over := 2 * len(prompt) + len(chosen) + len(rejected) - row) > 0:
                gone = min(-(-over // 2), len(prompt))
                lost += min(gone, len(texts[0]))  # an EOS behind it is no token of the cache
                prompt = prompt[gone:]
                keep = min(len(rejected), max(row // 2, row - len(chosen)))
                chosen, rejected = chosen[: row - keep], rejected[:keep]
                lost += max(len(texts[1]) - len(chosen), 0) + max(len(texts[2]) - len(rejected), 0)
            first, second = np.concatenate([prompt, chosen]), np.concatenate([prompt, rejected])
            weights = np.ones(len(first) + len(second), np.float32)
            weights[: len(prompt)] = weights[len(first) : len(first) + len(prompt)] = 0
            fields = {
                "decoder_target_tokens": np.concatenate([first, second]),
                "decoder_loss_weights": weights,
                "decoder_parts": np.array([len(first), len(second)]),
            }
            yield Piece(fields, raw=sum(map(len, texts)) - lost, cut=lost)
