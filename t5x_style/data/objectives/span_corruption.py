"""T5's span corruption: spans of a text are hidden behind sentinels, and said in the decoder (Raffel et al. 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from t5x_style.data.batches import ENCODER_DECODER, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.noise import draw_runs, drawable, hide, most_spans, raw_length, targets_length
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpanCorruption(Objective):
    """Pieces of a document, each with `noise_density` of its tokens hidden in spans of `mean_span` on average.

    The document [5, 6, 7, 8, 9, 10] with EOS 1 and sentinels 99, 98, ..., where 7 and [9, 10] are hidden:

        encoder_input_tokens   [5, 6, 99, 8, 98, 1]
        decoder_target_tokens  [99, 7, 98, 9, 10, 1]

    A piece begins with text and ends with noise, and its targets have no closing sentinel, as in T5. A piece is as much
    text as fills a row: 568 tokens give at most 512 in the encoder and 114 in the decoder. A longer document becomes
    consecutive pieces, of which the last is what is left; a shorter one is a piece of its own and shares a row with
    others. A piece of one token hides nothing, and its targets are the first sentinel.

    DataConfig.length 512 means rows of 512 in the encoder and the 114 that belong to them in the decoder; with a length
    for each side, pieces are as long as both sides allow.

    Attributes:
      feature: the feature that holds the document.
      noise_density: share of the tokens that is hidden. mean_span: tokens of a span, on average.
    """

    feature: str = "targets"
    noise_density: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self):
        super().__post_init__()
        check_noise("SpanCorruption", self.noise_density, self.mean_span)

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return ENCODER_DECODER

    def lengths(self, length: int | Mapping[str, int]) -> dict[str, int]:
        if isinstance(length, int):
            return {"encoder": length, "decoder": targets_length(length, self.noise_density, self.mean_span)}
        return super().lengths(length)

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        raw = self._raw(lengths)
        check_spans("SpanCorruption", raw, self.noise_density, self.mean_span, ids)

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return False

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        raw = self._raw(lengths)
        for example in examples:
            document = example.features[self.feature]
            for start in range(0, len(document), raw):
                tokens = document[start : start + raw]
                runs = draw_runs(len(tokens), self.noise_density, self.mean_span, rng)
                inputs, targets = hide(tokens, runs, ids.sentinels)
                yield Piece(sides(inputs, targets, ids), raw=len(tokens))

    def _raw(self, lengths: Mapping[str, int]) -> int:
        return raw_length(lengths["encoder"], lengths["decoder"], self.noise_density, self.mean_span)


def sides(inputs: np.ndarray, targets: np.ndarray, ids: Ids) -> dict[str, np.ndarray]:
    """The fields of an encoder-decoder piece, both sides ending with EOS where the vocabulary has one."""
    if ids.eos is not None:
        inputs, targets = np.append(inputs, np.int32(ids.eos)), np.append(targets, np.int32(ids.eos))
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def check_noise(name: str, density: float, mean_span: float) -> None:
    """Raises UserError for a share or a mean that cannot be."""
    if not 0 < density < 1:
        raise UserError(f"{name}.noise_density is {density}, must be a share above 0 and below 1")
    if not 1 <= mean_span < float("inf"):
        raise UserError(f"{name}.mean_span is {mean_span}, must be at least 1 token")


def check_spans(name: str, raw: int, density: float, mean_span: float, ids: Ids, mend: str = "") -> None:
    """Raises UserError where the spans of a piece of `raw` tokens have too little text, or too few sentinels.

    Args:
      mend: one more thing to do about too few sentinels.
    """
    if raw < 2:
        raise UserError(
            f"{name}: the rows hold pieces of {raw} tokens, of which none can be hidden; raise their length"
        )
    if not drawable(raw, density, mean_span):
        raise UserError(
            f"{name}: noise_density {density} with mean_span {mean_span} makes more spans than there are tokens to "
            "stand between them; lower noise_density or raise mean_span"
        )
    if not ids.sentinels:
        raise UserError(
            f"{name} needs sentinels, and the vocabulary has no <extra_id_0>, <extra_id_1>, ...; cache again with a "
            "vocabulary that has extra_ids"
        )
    spans = most_spans(raw, density, mean_span)
    if spans > len(ids.sentinels):
        raise UserError(
            f"{name}: noise_density {density} with mean_span {mean_span} hides {spans} spans in {raw} "
            f"tokens, and the vocabulary has {len(ids.sentinels)} sentinels; {mend}raise mean_span, shorten the rows, "
            f"or cache again with {spans} extra_ids"
        )
