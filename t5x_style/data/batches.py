"""Batch fields under seqio's names: one typed spec per objective.

A field belongs to a side ("encoder" or "decoder"), which has its own length and its own segments, and has a role:

    given         the objective makes it for every segment, or `fill` stands on every token of the segment
    shifted       the side's target tokens moved right by one, each segment beginning with the start id
    segment_ids   1, 2, ... for the segments of a row, 0 on padding
    positions     0, 1, ... within each segment, 0 on padding
    source_ids    index of the source in `loader.summary()["sources"]`, -1 on padding

Ids are int32 and every weight is float32. Padding of the token fields is the vocabulary's padding id (PAD below).
Two segments [7, 8, 1] and [9, 1] in a row of 6, start id 3, padding id 0:

    decoder_target_tokens [7, 8, 1, 9, 1,  0]     decoder_segment_ids  [1, 1, 1, 2, 2, 0]
    decoder_input_tokens  [3, 7, 8, 3, 9,  0]     decoder_positions    [0, 1, 2, 0, 1, 0]
    decoder_loss_weights  [1, 1, 1, 1, 1,  0]     source_ids           [0, 0, 0, 0, 0, -1]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

Role = Literal["given", "shifted", "segment_ids", "positions", "source_ids"]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]

PAD = "pad"  # stands for the vocabulary's padding id, which a spec does not know


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a batch, [accumulation, rows, length of its side].

    Attributes:
      name: seqio's name. side: "encoder" or "decoder". role: see the module's docstring.
      dtype: int32 or float32. padding: its value outside the segments, a number or PAD.
      fill: for role "given", its value on tokens of segments for which the objective gives no array.
    """

    name: str
    side: str
    role: Role = "given"
    dtype: type = np.int32
    padding: int | float | str = 0
    fill: int | float | None = None


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """The fields of an objective's batches. packable: several segments may share a row."""

    fields: tuple[Field, ...]
    packable: bool = True

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides in order of their first field."""
        return tuple(dict.fromkeys(field.side for field in self.fields))

    def of_side(self, side: str) -> tuple[Field, ...]:
        """The fields of one side."""
        return tuple(field for field in self.fields if field.side == side)

    def shapes(self, accumulation: int, rows: int, lengths: Mapping[str, int]) -> Shapes:
        """name -> (shape, dtype) of a batch with `rows` rows in a microbatch; lengths: side -> length."""
        return {field.name: ((accumulation, rows, lengths[field.side]), np.dtype(field.dtype)) for field in self.fields}


_DECODER = (
    Field("decoder_input_tokens", "decoder", "shifted", padding=PAD),
    Field("decoder_target_tokens", "decoder", padding=PAD),
    Field("decoder_loss_weights", "decoder", dtype=np.float32, fill=1.0),
    Field("decoder_segment_ids", "decoder", "segment_ids"),
    Field("decoder_positions", "decoder", "positions"),
    Field("source_ids", "decoder", "source_ids", padding=-1),
)

CAUSAL_LM = BatchSpec(_DECODER)
PREFIX_LM = BatchSpec(_DECODER)
PREFIX_LM_BIDIRECTIONAL = BatchSpec((*_DECODER, Field("decoder_causal_attention", "decoder", fill=0)))
