"""UL2's mixture of denoisers: short spans, long or many spans, and continuation (Tay et al. 2022, section 3.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from t5x_style.data.batches import ENCODER_DECODER, BatchSpec
from t5x_style.data.ids import Ids
from t5x_style.data.objectives.noise import draw_runs, hide, noise_counts, raw_length
from t5x_style.data.objectives.objective import Example, Objective, Piece
from t5x_style.data.objectives.span_corruption import check_noise, check_spans, sides
from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """One way to hide tokens.

    Attributes:
      noise_density: share of the tokens that is hidden. mean_span: tokens of a span, on average.
      mode: the token that tells the model which way it is, put first in the encoder; None: none.
      weight: how often it is drawn, against the others.
      prefix: the hidden tokens are one span at the end, without sentinels; mean_span is not used.
    """

    noise_density: float
    mean_span: float = 3.0
    mode: str | None = None
    weight: float = 1.0
    prefix: bool = False

    def __post_init__(self):
        check_noise("Denoiser", self.noise_density, self.mean_span)
        if not self.weight > 0:
            raise UserError(f"Denoiser.weight is {self.weight}, must be above 0; leave the denoiser out")


# Table 1 of the paper: two R-denoisers, four X-denoisers, and S, a quarter of the text at its end.
SEVEN = (
    Denoiser(0.15, 3.0, "[NLU]"),
    Denoiser(0.15, 8.0, "[NLU]"),
    Denoiser(0.5, 3.0, "[NLG]"),
    Denoiser(0.5, 8.0, "[NLG]"),
    Denoiser(0.15, 64.0, "[NLG]"),
    Denoiser(0.5, 64.0, "[NLG]"),
    Denoiser(0.25, mode="[S2S]", prefix=True),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UL2(Objective):
    """Each piece of a document is denoised in a way drawn for it; the way says how long the piece is.

    The document [5, 6, 7, 8, 9, 10], EOS 1, sentinels 99, 98, ..., modes [NLU] 90 and [S2S] 92; where the first
    denoiser hides 7 and [9, 10], and where continuation with a density of .33 hides the end:

        encoder_input_tokens   [90, 5, 6, 99, 8, 98, 1]      [92, 5, 6, 7, 8, 1]
        decoder_target_tokens  [99, 7, 98, 9, 10, 1]         [9, 10, 1]

    Rows of {"encoder": 1024, "decoder": 640} filled with pieces of {"encoder": 512, "decoder": 512} are fuller than
    rows of 512 and 512, whose targets are short where few tokens are hidden.

    Attributes:
      feature: the feature that holds the document.
      denoisers: the ways; modes are looked up among the vocabulary's special tokens.
      piece_lengths: side -> most tokens of a piece; None: the rows'.
      spans: what to do about a denoiser that hides more spans than there are sentinels: "refuse", or "cap" its pieces
        at a length where they suffice.
    """

    feature: str = "targets"
    denoisers: Sequence[Denoiser] = SEVEN
    piece_lengths: Mapping[str, int] | None = None
    spans: Literal["refuse", "cap"] = "refuse"

    def __post_init__(self):
        super().__post_init__()
        if not self.denoisers or not all(isinstance(denoiser, Denoiser) for denoiser in self.denoisers):
            raise UserError(f"UL2.denoisers is {self.denoisers!r}, must be one Denoiser or more")
        if self.spans not in ("refuse", "cap"):
            raise UserError(f"UL2.spans is {self.spans!r}, must be 'refuse' or 'cap'")
        if self.piece_lengths is not None and (
            set(self.piece_lengths) != {"encoder", "decoder"} or min(self.piece_lengths.values()) < 4
        ):
            raise UserError(
                f"UL2.piece_lengths is {self.piece_lengths!r}, must be {{'encoder': tokens, 'decoder': tokens}}, each "
                "at least 4"
            )

    @property
    def features(self) -> tuple[str, ...]:
        return (self.feature,)

    @property
    def spec(self) -> BatchSpec:
        return ENCODER_DECODER

    def check(self, lengths: Mapping[str, int], ids: Ids) -> None:
        for side, most in (self.piece_lengths or {}).items():
            if most > lengths[side]:
                raise UserError(
                    f"UL2.piece_lengths has {most} for the {side}, whose rows are {lengths[side]}; lower it, since a "
                    "piece stands in one row"
                )
        for denoiser in self.denoisers:
            if denoiser.mode is not None and denoiser.mode not in ids.named:
                raise UserError(
                    f"UL2: the vocabulary has no special token {denoiser.mode}; cache again with a vocabulary that has "
                    "it, or give denoisers with other modes, or None"
                )
        for denoiser, raw in zip(self.denoisers, self._raws(lengths, ids)):
            if raw < 2:
                raise UserError(
                    f"UL2: the rows hold pieces of {raw} tokens, of which none can be hidden; lengthen them"
                )
            if not denoiser.prefix:
                mend = "set UL2.spans='cap', "
                check_spans("UL2", raw, denoiser.noise_density, denoiser.mean_span, ids, mend)

    def may_cut(self, longest: Mapping[str, int | None], lengths: Mapping[str, int]) -> bool:  # noqa: ARG002
        return False

    def segments(
        self, examples: Sequence[Example], lengths: Mapping[str, int], ids: Ids, rng: np.random.Generator
    ) -> Iterator[Piece]:
        raws = self._raws(lengths, ids)
        weights = np.cumsum([denoiser.weight for denoiser in self.denoisers])
        for example in examples:
            document = example.features[self.feature]
            start = 0
            while start < len(document):
                way = int(np.searchsorted(weights, rng.random() * weights[-1], side="right"))
                tokens = document[start : start + raws[way]]
                start += len(tokens)
                denoiser = self.denoisers[way]
                inputs, targets = _denoise(tokens, denoiser, ids, rng)
                if denoiser.mode is not None:
                    inputs = np.insert(inputs, 0, np.int32(ids.named[denoiser.mode]))
                yield Piece(sides(inputs, targets, ids), raw=len(tokens))

    def _raws(self, lengths: Mapping[str, int], ids: Ids) -> list[int]:
        """Tokens of a full piece of each denoiser."""
        most = self.piece_lengths or lengths
        return [
            raw_length(
                most["encoder"] - (denoiser.mode is not None),
                most["decoder"],
                denoiser.noise_density,
                denoiser.mean_span,
                most_spans=max(len(ids.sentinels), 1) if self.spans == "cap" else None,
                prefix=denoiser.prefix,
            )
            for denoiser in self.denoisers
        ]


def _denoise(
    tokens: np.ndarray, denoiser: Denoiser, ids: Ids, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    if not denoiser.prefix or len(tokens) < 2:  # of one token nothing is hidden, see SpanCorruption
        runs = draw_runs(len(tokens), denoiser.noise_density, denoiser.mean_span, rng)
        return hide(tokens, runs, ids.sentinels)
    text = len(tokens) - int(noise_counts(len(tokens), denoiser.noise_density, denoiser.mean_span)[0])
    return tokens[:text], tokens[text:]
