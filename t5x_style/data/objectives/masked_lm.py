"""Masked language modelling of encoders: BERT's (Devlin et al. 2019, section 3.1), new in every epoch as RoBERTa's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.batches import MASKED_LM, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.data.objectives.special_tokens import around, is_special, surrounded
from t5x_style.errors import UserError

_MASKED, _RANDOM = 0.8, 0.9  # of the chosen tokens .8 become the mask, the next .1 a random id, the rest stay


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedLM(Objective):
    """Predict chosen tokens of a text, 80% of which are replaced by the mask, 10% by a random id, 10% by themselves.

    The document [5, 6, 7, 8], [CLS] 2, [SEP] 3, mask 4, where 6 is chosen and masked:

        encoder_input_tokens   [2, 5, 4, 7, 8, 3]
        encoder_target_tokens  [2, 5, 6, 7, 8, 3]
        encoder_loss_weights   [0, 0, 1, 0, 0, 0]

    [CLS] and [SEP] are written where the vocabulary has them; one without [SEP] ends a document as its Task wants. A
    document longer than a row becomes consecutive pieces. Of a piece of n tokens, these two included,
    max(1, round(mask_rate * n)) are chosen, as in BERT, at most `max_predictions`, and never a special token. The
    random id is any of the vocabulary.

    Attributes:
      feature: the feature that holds the document.
      mask_rate: share of the tokens that is chosen. max_predictions: most of them a piece; BERT had 20 in 128 tokens.
      whole_word: the pieces of a word are chosen together or not at all, and still replaced each by itself; a word
        longer than what is left to choose is passed over.
      copies: choices repeat after so many epochs (BERT made 10 copies of its data); None: new in every epoch.
    """

    feature: str = "targets"
    mask_rate: float = 0.15
    max_predictions: int | None = None
    whole_word: bool = False
    copies: int | None = None  # type: ignore[misc]  # a class variable of the base, here an option

    def __post_init__(self):
        super().__post_init__()
        name = type(self).__name__
        if not 0 < self.mask_rate < 1:
            raise UserError(f"{name}.mask_rate is {self.mask_rate}, must be a share above 0 and below 1")
        for option in ("max_predictions", "copies"):
            value = getattr(self, option)
            if value is not None and value < 1:
                raise UserError(f"{name}.{option} is {value}, must be at least 1, or None")

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return MASKED_LM

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        name = type(self).__name__
        if ids.mask is None:
            raise UserError(
                f"{name} needs a mask token, which the vocabulary has not; cache again with one that has it"
            )
        if ids.size is None:
            raise UserError(f"{name} draws random ids, and the cache does not know its vocabulary's size; cache again")
        if self.whole_word and ids.starts_word is None:
            raise UserError(f"{name}.whole_word: the cache does not say which tokens start a word; cache again")
        if lengths["encoder"] <= around(ids):
            raise UserError(f"{name}: rows of {lengths['encoder']} have no room between [CLS] and [SEP]; lengthen them")

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return False

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        for example in examples:
            for tokens, raw in surrounded(example.features[self.feature], lengths["encoder"], self.feature, ids):
                yield Piece(self.fields(tokens, ids, rng), raw=raw)

    def fields(self, tokens: np.ndarray, ids: Ids, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The fields of a text that has all its special tokens."""
        chosen = self._choose(tokens, ids, rng)
        how = rng.random(len(chosen))
        inputs = tokens.copy()
        assert ids.mask is not None, "check"
        inputs[chosen[how < _MASKED]] = ids.mask
        other = chosen[(how >= _MASKED) & (how < _RANDOM)]
        assert ids.size is not None, "check"
        inputs[other] = rng.integers(0, ids.size, len(other))
        weights = np.zeros(len(tokens), np.float32)
        weights[chosen] = 1
        return {
            "encoder_input_tokens": inputs,
            "encoder_target_tokens": tokens,
            "encoder_loss_weights": weights,
        }

    def _choose(self, tokens: np.ndarray, ids: Ids, rng: np.random.Generator) -> np.ndarray:
        """Places of the tokens to predict."""
        ordinary = ~is_special(tokens, ids)
        count = max(1, round(self.mask_rate * len(tokens)))
        if self.max_predictions is not None:
            count = min(count, self.max_predictions)
        if self.whole_word:
            assert ids.starts_word is not None, "check"
            return _whole_words(ordinary, ids.starts_word[tokens], count, rng)
        places = np.flatnonzero(ordinary)
        return rng.choice(places, min(count, len(places)), replace=False, shuffle=False) if len(places) else places


def _whole_words(ordinary: np.ndarray, starts: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of words in random order, each taken if it fits what is left of `count`.

    Args:
      ordinary: [L] what may be chosen. starts: [L] where a word starts; one also starts behind what is not ordinary.
    """
    places = np.flatnonzero(ordinary)
    if not len(places):
        return places
    first = starts[places] | (np.diff(places, prepend=-2) > 1)
    first[0] = True
    begins = np.flatnonzero(first)
    sizes = np.diff(begins, append=len(places))
    order = rng.permutation(len(begins))
    left, at = count, 0
    taken: list[int] = []
    drawn = sizes[order]
    while left > 0:
        fitting = np.flatnonzero(drawn[at:] <= left)
        if not len(fitting):
            break
        at += int(fitting[0])
        run = np.cumsum(drawn[at:])  # and all that follow it without a gap
        many = int(np.searchsorted(run, left, side="right"))
        taken += order[at : at + many].tolist()
        left -= int(run[many - 1])
        at += many
    chosen = np.zeros(len(begins), bool)
    chosen[taken] = True
    return places[np.repeat(chosen, sizes)]
