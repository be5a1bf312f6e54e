"""XLNet's permutation language modelling: predict the last tokens of a random order (Yang et al. 2019)."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from t5x_style.data.batches import PERMUTATION_LM, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.data.objectives.special_tokens import around, is_special, surrounded
from t5x_style.errors import UserError

_SHARES = 1 / np.arange(1, 6)  # n-grams of 1 to 5, drawn with weights 1 / n (the released code)
_CUMULATED = np.cumsum(_SHARES) / _SHARES.sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PermutationLM(Objective):
    """Of every `one_in` tokens one is a target, predicted from the context and from the targets before it in an order.

    The document [5, 6, 7, 8], [SEP] 4, [CLS] 3, where 6 and 7 are targets and 7 comes first in the order:

        encoder_input_tokens   [5, 6, 7, 8, 4, 3]      targets_target_tokens  [6, 7]
        encoder_ranks          [0, 2, 1, 0, 0, 0]      targets_places         [1, 2]

    A token must not see those of rank 1 or more whose rank is not below its own (the content stream sees itself):

        hidden[q, k] = ranks[k] >= ranks[q] and ranks[k] > 0

    which is `models.permutation.permutation_inputs` with visible_context. Without `visible_context` the context has the
    ranks 1, 2, ... of an order of its own, and the targets come behind it.

    Targets are n-grams of 1 to 5, more short ones than long ones, each at a random place among `one_in` times as
    many tokens around it, beginning where a word does; what is missing is made up by single tokens. [SEP] and [CLS], at
    the end where the vocabulary has them, and other special tokens are no targets. A document longer than a row becomes
    consecutive pieces. There is one order a piece: memory, and a second half that sees all of the first, are not here.

    DataConfig.length 512 means rows of 512 tokens with 512 // one_in targets.

    Attributes:
      feature: the feature that holds the document.
      one_in: K of the paper. spans: what an n-gram counts: "pieces", as the released models did, or "words", as the
        paper says.
      visible_context: see above.
    """

    feature: str = "targets"
    one_in: int = 6
    spans: Literal["pieces", "words"] = "pieces"
    visible_context: bool = True

    def __post_init__(self):
        super().__post_init__()
        if self.one_in < 1:
            raise UserError(f"PermutationLM.one_in is {self.one_in}, must be at least 1")
        if self.spans not in ("pieces", "words"):
            raise UserError(f"PermutationLM.spans is {self.spans!r}, must be 'pieces' or 'words'")

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return PERMUTATION_LM

    def lengths(self, length: int | Mapping[str, int]) -> dict[str, int]:
        if isinstance(length, int):
            return {"encoder": length, "targets": max(length // self.one_in, 1)}
        return super().lengths(length)

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        if ids.starts_word is None:
            raise UserError("PermutationLM: the cache does not say which tokens start a word; cache again")
        if lengths["encoder"] <= around(ids):
            raise UserError(
                f"PermutationLM: rows of {lengths['encoder']} hold no text beside [SEP] and [CLS]; lengthen"
            )

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return False

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        for example in examples:
            for text, raw in surrounded(example.features[self.feature], lengths["encoder"], self.feature, ids):
                tokens = text if ids.cls is None else np.roll(text, -1)  # XLNet's stands last
                yield Piece(self._fields(tokens, lengths["targets"], ids, rng), raw=raw)

    def _fields(self, tokens: np.ndarray, most: int, ids: Ids, rng: np.random.Generator) -> dict[str, np.ndarray]:
        places = self._choose(tokens, most, ids, rng)
        ranks = np.zeros(len(tokens), np.int32)
        before = 0
        if not self.visible_context:
            context = np.ones(len(tokens), bool)
            context[places] = False
            before = len(tokens) - len(places)
            ranks[context] = 1 + rng.permutation(before)
        ranks[places] = 1 + before + rng.permutation(len(places))
        return {
            "encoder_input_tokens": tokens,
            "encoder_ranks": ranks,
            "targets_target_tokens": tokens[places],
            "targets_places": places.astype(np.int32),
        }

    def _choose(self, tokens: np.ndarray, most: int, ids: Ids, rng: np.random.Generator) -> np.ndarray:
        """Places of the targets, in order."""
        assert ids.starts_word is not None, "check"
        ordinary = ~is_special(tokens, ids)
        count = min(max(len(tokens) // self.one_in, 1), most, int(np.count_nonzero(ordinary)))
        inside = np.flatnonzero(ordinary)
        text = int(inside[-1]) + 1 if count else 0
        chosen = self._grams(ids.starts_word[tokens[:text]], count, rng)
        chosen = np.concatenate([chosen & ordinary[:text], np.zeros(len(tokens) - text, bool)])
        missing = count - int(np.count_nonzero(chosen))
        if missing:
            free = np.flatnonzero(ordinary & ~chosen)
            chosen[rng.choice(free, missing, replace=False, shuffle=False)] = True
        return np.flatnonzero(chosen)

    def _grams(self, starts_word: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
        """[L] bool: n-grams of up to `count` tokens, from the left to the right."""
        text, starts = len(starts_word), np.flatnonzero(starts_word).tolist()
        sizes = 1 + np.searchsorted(_CUMULATED, rng.random(count), side="right")
        shares = rng.random(count)  # of the tokens around an n-gram, those before it
        ahead = (shares * sizes * self.one_in).astype(int)
        words = self.spans == "words"
        begins, ends = [], []
        at, left = 0, count
        for size, before, share in zip(sizes.tolist(), ahead.tolist(), shares.tolist()):
            if size > left:
                if not left:
                    break
                size = left
                before = int(share * size * self.one_in)
            first = bisect.bisect_left(starts, at + before)
            if first == len(starts):
                break
            begin = starts[first]
            if words:
                end = starts[first + size] if first + size < len(starts) else text
            else:
                end = begin + size
            if end >= text:
                break
            at = end + size * self.one_in - before
            if end - begin > left:  # whole words may be longer than what is left
                end = begin + left
            left -= end - begin
            begins.append(begin)
            ends.append(end)
        edges = np.zeros(text + 1, np.int8)
        edges[begins], edges[ends] = 1, -1  # one token at least stands between two
        return np.cumsum(edges[:text]) > 0
