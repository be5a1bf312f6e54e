"""GLM's autoregressive blank infilling: spans, or the end of a text, said after it (Du et al. 2022, section 2)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.batches import GLM, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.errors import UserError

_MEAN, _LONGEST = 3, 39  # the released code: Poisson(3) restricted to 1 .. 39
_WEIGHTS = np.array([_MEAN**size / math.factorial(size) for size in range(1, _LONGEST + 1)])
_CUMULATED = np.cumsum(_WEIGHTS) / _WEIGHTS.sum()


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlankInfilling(Objective):
    """A text with blanks, which sees itself in both directions, and then what belongs in them, word for word.

    The document [5, 6, 7, 8, 9, 10] with [MASK] 20, start 30 and end 31 of a blank; 7 and [9, 10] are blanked and
    filled in the other way round:

        decoder_input_tokens      [5, 6, 20,  8, 20, 30,  9, 10, 30,  7]
        decoder_target_tokens     [5, 6, 20,  8, 20,  9, 10, 31,  7, 31]
        decoder_loss_weights      [0, 0,  0,  0,  0,  1,  1,  1,  1,  1]
        decoder_positions[:, 0]   [0, 1,  2,  3,  4,  4,  4,  4,  2,  2]
        decoder_positions[:, 1]   [0, 0,  0,  0,  0,  1,  2,  3,  1,  2]
        decoder_causal_attention  [1, 1,  1,  1,  1,  0,  0,  0,  0,  0]

    With `generation_probability` a piece is its beginning and [gMASK] 21 instead, then its end, at least a quarter:

        decoder_input_tokens      [5, 6, 21, 30, 7, 8, 9, 10]
        decoder_target_tokens     [5, 6, 21, 7, 8, 9, 10, 31]

    [CLS] is put in front where the vocabulary has it, and a document ends with EOS where its Task wants that; an EOS is
    generated, but never blanked. The lengths of blanks are of a Poisson distribution of mean 3, restricted to 1 .. 39;
    they are drawn until they hold int(noise_density * tokens). At least one token stands between two blanks. A document
    longer than a row becomes consecutive pieces, each as long as its kind and its blanks let it be.

    Attributes:
      feature: the feature that holds the document.
      noise_density: share of a text that is blanked.
      generation_probability: how often a piece is generated instead.
      blank: the token of a blank; None: the vocabulary's mask. generated: that of a generated end.
      start, end: the tokens before and behind what fills a blank (ChatGLM: <sop>, <eop>).
    """

    feature: str = "targets"
    noise_density: float = 0.15
    generation_probability: float = 0.0
    blank: str | None = None
    generated: str = "[gMASK]"
    start: str = "<|startofpiece|>"
    end: str = "<|endofpiece|>"

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.noise_density < 0.5:
            raise UserError(f"BlankInfilling.noise_density is {self.noise_density}, must be a share from 0 to below .5")
        if not 0 <= self.generation_probability <= 1:
            raise UserError(
                f"BlankInfilling.generation_probability is {self.generation_probability}, must be from 0 to 1"
            )

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return GLM

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        needed = {"start": self.start, "end": self.end}
        if self.generation_probability > 0:
            needed["generated"] = self.generated
        if self.generation_probability < 1 and self.blank is not None:
            needed["blank"] = self.blank
        for option, name in needed.items():
            if name not in ids.named:
                raise UserError(
                    f"BlankInfilling.{option} is {name}, which is no special token of the vocabulary; name another, or "
                    "cache again with a vocabulary that has it"
                )
        if self.generation_probability < 1 and self.blank is None and ids.mask is None:
            raise UserError(
                "BlankInfilling needs a mask token, which the vocabulary has not; name one as BlankInfilling.blank, or "
                "cache again with a vocabulary that has it"
            )
        if lengths["decoder"] < 8:
            raise UserError(f"BlankInfilling: rows of {lengths['decoder']} hold no text with a blank; lengthen them")

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return False

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        front = np.array([] if ids.cls is None else [ids.cls], np.int32)
        room = lengths["decoder"] - len(front)
        for example in examples:
            document = example.features[self.feature]
            text = ids.ended(self.feature, document)
            start = 0
            while start < len(document):
                rest = text[start:]
                if rng.random() < self.generation_probability:
                    tokens, made = self._generated(rest, room, front, ids, rng)
                else:
                    tokens, made = self._blanked(rest, len(document) - start, room, front, ids, rng)
                yield Piece(made, raw=min(tokens, len(document) - start))
                start += tokens

    def _generated(
        self, rest: np.ndarray, room: int, front: np.ndarray, ids: Ids, rng: np.random.Generator
    ) -> tuple[int, dict[str, np.ndarray]]:
        """A piece of the first tokens of `rest` whose end is generated, and how many it holds."""
        text = rest[: room - 2]
        least = max(len(text) // 4, 1)
        end = int(rng.integers(least, max(len(text) - 2, least) + 1))
        sight = np.concatenate([front, text[: len(text) - end], np.array([ids.named[self.generated]], np.int32)])
        return len(text), self._fields(sight, [text[len(text) - end :]], np.array([len(sight) - 1]), ids)

    def _blanked(
        self, rest: np.ndarray, own: int, room: int, front: np.ndarray, ids: Ids, rng: np.random.Generator
    ) -> tuple[int, dict[str, np.ndarray]]:
        """A piece of the first tokens of `rest` with blanks; the first `own` of them may be blanked."""
        longest = min(len(rest), room - 2)
        most = int(self.noise_density * min(longest, own))
        sizes = 1 + np.searchsorted(_CUMULATED, rng.random(max(most, 1)), side="right")
        held = np.cumsum(sizes)
        # the longest piece that fits with its blanks; one that is shorter by two for every blank does
        lengths = np.arange(max(room - 2 * int(np.searchsorted(held, most) + 1), 1), longest + 1)
        lengths = lengths if len(lengths) else np.array([longest])
        count = np.searchsorted(held, (self.noise_density * np.minimum(lengths, own)).astype(int)) + 1
        place = int(np.flatnonzero(lengths + 2 * count <= room)[-1])
        length = int(lengths[place])
        text = rest[:length]
        own = min(own, length)
        sizes = rng.permutation(sizes[: count[place]])
        while len(sizes) > 1 and sizes.sum() + len(sizes) - 1 > own:
            sizes = sizes[:-1]
        sizes[0] = min(sizes[0], own)
        places = np.sort(rng.integers(0, own - int(sizes.sum()) - len(sizes) + 2, len(sizes)))
        starts = places + np.cumsum(sizes + 1) - sizes - 1
        mask = ids.mask if self.blank is None else ids.named[self.blank]
        shown = np.ones(length, bool)
        shown[np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))] = False
        shown[starts] = True  # where the blank stands
        with_blanks = text.copy()
        with_blanks[starts] = mask
        sight = np.concatenate([front, with_blanks[shown]])
        blanks = len(front) + np.cumsum(shown)[starts] - 1
        order = rng.permutation(len(sizes)).tolist()
        begins, ends = starts.tolist(), (starts + sizes).tolist()
        return length, self._fields(sight, [text[begins[i] : ends[i]] for i in order], blanks[order], ids)

    def _fields(
        self, sight: np.ndarray, fillings: Sequence[np.ndarray], places: np.ndarray, ids: Ids
    ) -> dict[str, np.ndarray]:
        """The fields of a text with blanks and what fills them, in this order; places: of their blanks in the text."""
        sizes = np.array([len(filling) + 1 for filling in fillings])
        total = len(sight) + int(sizes.sum())
        ends = len(sight) + np.cumsum(sizes)
        filling = np.concatenate(fillings)
        inputs, targets = np.empty(total, np.int32), np.empty(total, np.int32)
        inputs[: len(sight)] = targets[: len(sight)] = sight
        inside = np.ones(total - len(sight), bool)
        inside[ends - sizes - len(sight)] = False
        inputs[len(sight) :][inside], inputs[ends - sizes] = filling, ids.named[self.start]
        inside[:] = True
        inside[ends - 1 - len(sight)] = False
        targets[len(sight) :][inside], targets[ends - 1] = filling, ids.named[self.end]
        positions = np.zeros((total, 2), np.int32)
        positions[: len(sight), 0] = np.arange(len(sight))
        positions[len(sight) :, 0] = np.repeat(places, sizes)
        positions[len(sight) :, 1] = np.arange(total - len(sight)) - np.repeat(ends - sizes - len(sight), sizes) + 1
        weights, visible = np.ones(total, np.float32), np.zeros(total, np.int32)
        weights[: len(sight)], visible[: len(sight)] = 0, 1
        return {
            "decoder_input_tokens": inputs,
            "decoder_target_tokens": targets,
            "decoder_loss_weights": weights,
            "decoder_positions": positions,
            "decoder_causal_attention": visible,
        }
