"""Batch fields under seqio's names: what the arrays of an objective's batches are.

A batch has sides, named lengths ("encoder", "decoder", "targets", ...). An objective cuts examples into pieces; a piece
is one segment, or several that share a row (its parts, such as the answers of a pair); a segment has a run of tokens on
every side, which may be empty. A field belongs to a side and has a role:

    given         the objective makes it, or `fill` stands on every token of the segment
    shifted       the side's target tokens moved right by one, each segment beginning with the start id (or given)
    segment_ids   1, 2, ... for the segments of a row, 0 on padding; a segment has the same number on every side
    piece_ids     1, 2, ... for the pieces of a row, 0 on padding: the same for all parts of a piece
    positions     0, 1, ... within each segment, 0 on padding
    source_ids    index of the source in `loader.summary()["sources"]`, -1 on padding
    index         given: places within the segment on the side `into`, which become places in the row

Ids are int32 and every weight is float32. Padding of the token fields is the vocabulary's padding id (PAD below).
Two segments [7, 8, 1] and [9, 1] in a row of 6, start id 3, padding id 0:

    decoder_target_tokens [7, 8, 1, 9, 1,  0]     decoder_segment_ids  [1, 1, 1, 2, 2, 0]
    decoder_input_tokens  [3, 7, 8, 3, 9,  0]     decoder_positions    [0, 1, 2, 0, 1, 0]
    decoder_loss_weights  [1, 1, 1, 1, 1,  0]     source_ids           [0, 0, 0, 0, 0, -1]

A fact about a segment (a label, a score) is a given field that is constant over its tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

Role = Literal["given", "shifted", "segment_ids", "piece_ids", "positions", "source_ids", "index"]
Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]

PAD = "pad"  # stands for the vocabulary's padding id, which a spec does not know


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a batch, [accumulation, rows, length of its side, *trailing].

    Attributes:
      name: seqio's name. side: the named length it lies along. role: see the module's docstring.
      dtype: int32 or float32. padding: its value outside the segments, a number or PAD.
      fill: for role "given", its value on tokens of segments for which the objective gives no array.
      trailing: constant dimensions behind the length (GLM's two positions, a patch's pixels); never a row length.
      into: for role "index", the side whose places the values are.
    """

    name: str
    side: str
    role: Role = "given"
    dtype: type = np.int32
    padding: int | float | str = 0
    fill: int | float | None = None
    trailing: tuple[int, ...] = ()
    into: str | None = None


@dataclasses.dataclass(frozen=True)
class BatchSpec:
    """The fields of an objective's batches.

    Attributes:
      fields: in the order of the batch. packable: several pieces may share a row.
      max_segments: most segments of a row; None: as many as fit.
    """

    fields: tuple[Field, ...]
    packable: bool = True
    max_segments: int | None = None

    @property
    def sides(self) -> tuple[str, ...]:
        """The sides in order of their first field."""
        return tuple(dict.fromkeys(field.side for field in self.fields))

    def of_side(self, side: str) -> tuple[Field, ...]:
        """The fields of one side."""
        return tuple(field for field in self.fields if field.side == side)

    def of_role(self, role: Role) -> dict[str, str]:
        """side -> name of its first field of a role."""
        return {field.side: field.name for field in reversed(self.fields) if field.role == role}

    def shapes(self, accumulation: int, rows: int, lengths: Mapping[str, int]) -> Shapes:
        """name -> (shape, dtype) of a batch with `rows` rows in a microbatch; lengths: side -> length."""
        return {
            field.name: ((accumulation, rows, lengths[field.side], *field.trailing), np.dtype(field.dtype))
            for field in self.fields
        }


_DECODER = (
    Field("decoder_input_tokens", "decoder", "shifted", padding=PAD),
    Field("decoder_target_tokens", "decoder", padding=PAD),
    Field("decoder_loss_weights", "decoder", dtype=np.float32, fill=1.0),
    Field("decoder_segment_ids", "decoder", "segment_ids"),
    Field("decoder_positions", "decoder", "positions"),
    Field("source_ids", "decoder", "source_ids", padding=-1),
)
_ENCODER = (
    Field("encoder_input_tokens", "encoder", padding=PAD),
    Field("encoder_segment_ids", "encoder", "segment_ids"),
    Field("encoder_positions", "encoder", "positions"),
)

CAUSAL_LM = BatchSpec(_DECODER)
PREFIX_LM = BatchSpec(_DECODER)
PREFIX_LM_BIDIRECTIONAL = BatchSpec((*_DECODER, Field("decoder_causal_attention", "decoder", fill=0)))
# T5, BART, UL2: corrupted text or a question in the encoder, what it should become in the decoder.
ENCODER_DECODER = BatchSpec((*_ENCODER, *_DECODER))
# BERT: what stands on a masked token is its target, with weight 1; token types tell the two texts of a pair apart.
MASKED_LM = BatchSpec(
    (
        *_ENCODER,
        Field("encoder_target_tokens", "encoder", padding=PAD),
        Field("encoder_loss_weights", "encoder", dtype=np.float32, fill=0.0),
        Field("encoder_token_types", "encoder", fill=0),
        Field("source_ids", "encoder", "source_ids", padding=-1),
    )
)
# With BERT's second task, whose label stands on every token of the segment (losses/task_heads.py).
NEXT_SENTENCE = BatchSpec(
    (
        *MASKED_LM.fields,
        Field("encoder_next_sentence_labels", "encoder", fill=0),
        Field("encoder_next_sentence_weights", "encoder", dtype=np.float32, fill=1.0),
    )
)
# GLM: positions are given, two a token: the place in the text, and the place within the blank that is filled in.
GLM = BatchSpec(
    tuple(
        dataclasses.replace(field, role="given", trailing=(2,)) if field.role == "positions" else field
        for field in (*_DECODER, Field("decoder_causal_attention", "decoder", fill=0))
    )
)
# XLNet: a token's rank in the factorisation order (equal ranks see each other), from which the model makes its mask.
PERMUTATION_LM = BatchSpec(
    (
        *_ENCODER,
        Field("encoder_ranks", "encoder"),
        Field("targets_target_tokens", "targets", padding=PAD),
        Field("targets_loss_weights", "targets", dtype=np.float32, fill=1.0),
        Field("targets_segment_ids", "targets", "segment_ids"),
        Field("targets_places", "targets", "index", into="encoder", padding=-1),
        Field("source_ids", "encoder", "source_ids", padding=-1),
    )
)
# Pairs (DPO, reward models): two segments of one row, the preferred answer first.
PAIRS = BatchSpec((*_DECODER, Field("decoder_piece_ids", "decoder", "piece_ids")))
