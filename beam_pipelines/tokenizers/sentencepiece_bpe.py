"""SentencePiece BPE with byte fallback: nothing is unknown, digits stand alone, white space survives."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence

import sentencepiece

from t5x_style.errors import UserError

# SentencePiece leaves out longer lines without a word, so they are cut before it sees them (its limit is in bytes,
# at most 4 of which make a character).
MAX_LINE_BYTES = 16_384
# The model file records the number of threads, so a machine's own number would change the fingerprint.
THREADS = 16
# Always pieces of their own, however rare: the rest of ASCII would otherwise depend on the sample.
ASCII = "".join(chr(code) for code in range(0x21, 0x7F))
SPECIAL_IDS = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": 3}


def lines(texts: Iterable[str], longest: int = MAX_LINE_BYTES // 4) -> Iterator[str]:
    """Lines of the texts, cut at `longest` characters; empty ones and NUL characters are left out.

    >>> list(lines(["ab\\n\\ncdef"], longest=3))
    ['ab', 'cde', 'f']
    """
    for text in texts:
        for line in text.replace("\0", "").split("\n"):
            for start in range(0, len(line), longest):
                yield line[start : start + longest]


def train_bpe(texts: Sequence[str], vocab_size: int) -> bytes:
    """The serialized model.

    The settings are LLaMA's (Touvron et al. 2023, section 2.1): BPE, byte fallback, digits split, text not normalised.
    Line ends become the byte piece <0x0A>; runs of spaces, which code is made of, may become pieces.

    Args:
      texts: training documents.
      vocab_size: pieces in all: 4 special ones, 256 bytes, characters, merges.

    Raises:
      UserError: the text cannot give that many pieces, or so few do not suffice for its characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            # SentencePiece aborts the process where a required character occurs nowhere.
            sentence_iterator=itertools.chain(lines(texts), [" ".join(ASCII)]),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            character_coverage=0.9995,
            required_chars=ASCII,
            max_sentence_length=MAX_LINE_BYTES,
            num_threads=THREADS,
            minloglevel=2,
            **SPECIAL_IDS,
        )
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--vocab_size {vocab_size} does not fit the training text: {reason}") from error
    return model.getvalue()


def vocabulary_lines(model: bytes) -> str:
    """`piece<TAB>score` for every id in order, as SentencePiece's own .vocab file."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    rows = (f"{processor.id_to_piece(i)}\t{processor.get_score(i):g}" for i in range(processor.get_piece_size()))
    return "\n".join(rows) + "\n"


def characters_per_token(model: bytes, texts: Sequence[str]) -> float | None:
    """Mean over all text, EOS not counted; None where there is no text."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokens = sum(len(ids) for ids in processor.encode(list(texts), out_type=int))
    return sum(map(len, texts)) / tokens if tokens else None
