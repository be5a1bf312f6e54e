"""SentencePiece model files as `tokenizers` pipelines: the same pieces for the same text, without SentencePiece.

Kudo and Richardson 2018. A model is a normaliser (character map, white space), BPE or unigram pieces with scores, and
pieces of other types: control (never produced by text), unknown, bytes (what an unknown character falls back to) and
user-defined (always cut out of the text first).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError

SPACE = "▁"  # U+2581, how pieces write a space
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
UNIGRAM, BPE = 1, 2


def read(path: str | Path) -> Any:
    """The ModelProto of a file.

    Raises:
      UserError: it is missing or is no SentencePiece model.
    """
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto()
    try:
        proto.ParseFromString(Path(path).read_bytes())
    except (OSError, DecodeError) as error:
        raise UserError(f"{path} is no SentencePiece model ({error})") from error
    if not proto.pieces:
        raise UserError(f"{path} is no SentencePiece model: it holds no pieces")
    return proto


def merges(vocabulary: dict[str, int], pieces: Iterable[str]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes another of `pieces`, in the order in which BPE applies them.

    SentencePiece merges the neighbours that make the piece with the best score; ids are in the order of the scores.

    Example:
      merges({"a": 0, "b": 1, "ab": 2, "aba": 3}, ["a", "b", "ab", "aba"]) == [("a", "b"), ("ab", "a")]
    """
    found = []
    for piece in pieces:
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        found += [(vocabulary[piece], len(left), left, right) for left, right in known]
    return [(left, right) for _, _, left, right in sorted(found)]


def build(path: str | Path) -> Any:
    """A `tokenizers.Tokenizer` that gives SentencePiece's ids.

    Text is never read as a control piece by BPE models: their strings are no merges of other pieces. Unigram models
    have no such separation in `tokenizers`: a text that spells "</s>" gives that id.

    Raises:
      UserError: it is no SentencePiece model, or one of words or characters, with suffix spaces or unused pieces.
    """
    import tokenizers

    proto = read(path)
    trainer = proto.trainer_spec
    if trainer.model_type not in (UNIGRAM, BPE):
        raise UserError(f"{path}: only BPE and unigram models can be converted, this is type {trainer.model_type}")
    if trainer.treat_whitespace_as_suffix or any(piece.type == UNUSED for piece in proto.pieces):
        raise UserError(f"{path}: spaces as suffixes and unused pieces have no counterpart in tokenizer.json")
    symbols = [piece.piece for piece in proto.pieces if piece.type == USER_DEFINED]
    if trainer.model_type == BPE:
        vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
        ordinary = [piece.piece for piece in proto.pieces if piece.type == NORMAL]
        model: Any = tokenizers.models.BPE(
            vocab=vocabulary,
            merges=merges({piece: vocabulary[piece] for piece in ordinary}, ordinary),
            unk_token=next((piece.piece for piece in proto.pieces if piece.type == UNKNOWN), None),
            fuse_unk=True,
            byte_fallback=trainer.byte_fallback,
            ignore_merges=bool(symbols),  # a pretoken that is a piece stays whole: what user-defined symbols need
        )
    else:
        scores = [(piece.piece, piece.score) for piece in proto.pieces]
        model = tokenizers.models.Unigram(scores, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizer(proto)
    if symbols:
        longest = sorted((symbol.replace(" ", SPACE) for symbol in symbols), key=len, reverse=True)
        pattern = tokenizers.Regex("|".join(map(re.escape, longest)))
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(pattern, "isolated")
    tokenizer.decoder = decoder(proto)
    return tokenizer


def normalizer(proto: Any) -> Any:
    """Its character map, then its rules of white space."""
    from tokenizers import Regex, normalizers

    spec = proto.normalizer_spec
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        # \A and \z: ^ and $ also match at line ends in this regular expression library.
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)


def decoder(proto: Any) -> Any:
    """Pieces to text: bytes joined, the space that was put in front taken off."""
    from tokenizers import decoders

    steps: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1, right=0))
    return decoders.Sequence(steps)
