"""Specs of position encodings; re-exported by models/specs/."""

from __future__ import annotations

import dataclasses
from typing import Literal

from t5x_style.models.specs.checks import check, choice


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """Stretches rotary frequencies for longer contexts.

    Attributes:
      kind: "linear" divides every frequency by `factor` (Chen et al. 2023); "dynamic" raises the base once a sequence
        is longer than `original_length` (NTK-aware); "llama3" divides long wavelengths by `factor`, keeps short ones
        and blends between (LLaMA 3.1 release); "yarn" blends by dimension and scales the scores (Peng et al. 2023).
      factor: at least 1.
      low_frequency_factor, high_frequency_factor: llama3 only; wavelengths above original_length / low are divided,
        below original_length / high kept.
      original_length: of the sequences that the model was trained on (all kinds but linear).
      beta_fast, beta_slow: yarn only; dimensions that turn more than beta_fast times within original_length are kept,
        fewer than beta_slow times divided.
      attention_factor: yarn only; multiplies cosines and sines. None: 0.1 ln(factor) + 1.
      round_limits: yarn only; whether the limits between the dimensions are rounded outwards, as the release does.
    """

    kind: Literal["linear", "dynamic", "llama3", "yarn"] = "linear"
    factor: float = 1.0
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_length: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    round_limits: bool = True

    def __post_init__(self):
        choice(self.kind, ("linear", "dynamic", "llama3", "yarn"), "RopeScaling.kind")
        check(self.factor >= 1, f"RopeScaling.factor is {self.factor}; give at least 1")
        check(
            self.kind != "llama3" or 0 < self.low_frequency_factor < self.high_frequency_factor,
            f"RopeScaling: low_frequency_factor {self.low_frequency_factor} must be positive and below "
            f"high_frequency_factor {self.high_frequency_factor}",
        )
        check(
            self.kind != "yarn" or 0 < self.beta_slow <= self.beta_fast,
            f"RopeScaling: beta_slow {self.beta_slow} must be positive and at most beta_fast {self.beta_fast}",
        )
        check(
            self.original_length >= 1, f"RopeScaling.original_length is {self.original_length}; give a positive number"
        )


@dataclasses.dataclass(frozen=True)
class RopeSpec:
    """Rotary positions (Su et al. 2021).

    Attributes:
      base: theta. scaling: stretches the frequencies.
      dim: how many dimensions of a head turn, the first ones; None: all.
      interleaved: dimensions 2i and 2i + 1 turn together (GLM 2 and later), not i and i + dim / 2 (LLaMA).
      two_dimensional: half of the turning dimensions follow the position, the other half the position within the
        block that is being filled in (ChatGLM-6B, whose two positions are GLM's, Du et al. 2022, section 2.1);
        positions are then [B, L, 2].
    """

    base: float = 10000.0
    scaling: RopeScaling | None = None
    dim: int | None = None
    interleaved: bool = False
    two_dimensional: bool = False

    def __post_init__(self):
        check(self.base > 1, f"RopeSpec.base is {self.base}; give a number above 1, such as 10000.0")
        check(
            self.dim is None or (self.dim >= 2 and self.dim % 2 == 0),
            f"RopeSpec.dim is {self.dim}; give an even number of dimensions, or None for all",
        )


@dataclasses.dataclass(frozen=True)
class RelativeBiasSpec:
    """T5's bias on scores, learned per bucket of distances, shared by all layers (Raffel et al. 2020, section 2.1).

    Attributes:
      buckets: half of them exact distances, the others logarithmic up to max_distance.
      bidirectional: half of the buckets are for keys behind the query (encoders).
    """

    buckets: int = 32
    max_distance: int = 128
    bidirectional: bool = False

    def __post_init__(self):
        smallest = 4 if self.bidirectional else 2
        check(
            self.buckets >= smallest and self.buckets % smallest == 0,
            f"RelativeBiasSpec.buckets is {self.buckets}; give a multiple of {smallest}",
        )
        check(
            self.max_distance > self.buckets // smallest,
            f"RelativeBiasSpec.max_distance is {self.max_distance}; give more than {self.buckets // smallest}",
        )


@dataclasses.dataclass(frozen=True)
class PositionSpec:
    """Positions added to the embeddings.

    Attributes:
      kind: "learned" rows of a table, or "sinusoidal" (Vaswani et al. 2017, section 3.5).
      length: rows of the table. offset: added to every position (RoBERTa counts from 2).
      blocks: a second table of the same length is added, for the position within the block that is being filled in
        (GLM, Du et al. 2022, section 2.1); positions are then [B, L, 2].
    """

    kind: Literal["learned", "sinusoidal"] = "learned"
    length: int = 512
    offset: int = 0
    blocks: bool = False

    def __post_init__(self):
        choice(self.kind, ("learned", "sinusoidal"), "PositionSpec.kind")
        check(self.length >= 1, f"PositionSpec.length is {self.length}; give at least 1")
        check(self.offset >= 0, f"PositionSpec.offset is {self.offset}; give 0 or more")
        check(not self.blocks or self.kind == "learned", 'PositionSpec.blocks needs kind "learned"')
