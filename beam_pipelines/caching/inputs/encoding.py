"""Texts as ids together with the characters that every token stands for."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from t5x_style.data.vocabulary import Tokenizer, Vocabulary
from t5x_style.huggingface.tokenizers.tokenizers import HuggingFaceTokenizer


class Encoded(NamedTuple):
    """ids [n] int32; starts, ends [n]: token i stands for the characters [starts[i], ends[i]) of the text.

    Tokens of one character (bytes of an emoji) share its start. Neither column ever falls.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def encode_aligned(tokenizer: Tokenizer, texts: Sequence[str], special: bool) -> list[Encoded]:
    """The ids of texts without BOS or EOS around them, and their characters.

    Args:
      tokenizer: of a Hugging Face folder, or a SentencePiece model.
      special: the texts of control tokens are read as these tokens, as chat templates mean them. A SentencePiece model
        never reads them in text: there the stretches between them are encoded each alone, with the space in front that
        the model puts before every text.
    """
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return _of_pipeline(tokenizer.pipeline, texts, special)
    assert isinstance(tokenizer, Vocabulary)
    return _of_sentencepiece(tokenizer, texts, special)


def _of_pipeline(pipeline: Any, texts: Sequence[str], special: bool) -> list[Encoded]:
    # Without special tokens around a text a post-processor only moves offsets (it leaves spaces out of them).
    before = pipeline.post_processor, pipeline.encode_special_tokens
    pipeline.post_processor = None
    pipeline.encode_special_tokens = pipeline.encode_special_tokens and not special
    try:
        found = pipeline.encode_batch(list(texts), add_special_tokens=False)
    finally:
        pipeline.post_processor, pipeline.encode_special_tokens = before
    encoded = []
    for encoding in found:
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        encoded.append(Encoded(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1]))
    return encoded


def _of_sentencepiece(vocabulary: Vocabulary, texts: Sequence[str], special: bool) -> list[Encoded]:
    processor, control = _sentencepiece(str(vocabulary.path), vocabulary.extra_ids)
    control = control if special else {}
    longest = sorted(control, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, longest))) if longest else None
    return [_stretches(processor, text, control, pattern) for text in texts]


@functools.lru_cache(maxsize=1)
def _sentencepiece(path: str, extra_ids: int) -> tuple[Any, dict[str, int]]:
    """The model, and the ids of its control pieces and extra ids by text."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=path)
    pieces = processor.get_piece_size()
    named = Vocabulary(path, extra_ids).facts().special
    return processor, {text: token for text, token in named.items() if token >= pieces or processor.is_control(token)}


def _stretches(processor: Any, text: str, control: dict[str, int], pattern: re.Pattern | None) -> Encoded:
    rows: list[tuple[int, int, int]] = []

    def add(start: int, end: int) -> None:
        if start < end:
            part = text[start:end]
            place = _characters(part)
            proto = processor.encode(part, return_type="proto")
            rows.extend((piece.id, start + place[piece.begin], start + place[piece.end]) for piece in proto.pieces)

    position = 0
    for match in pattern.finditer(text) if pattern else ():
        add(position, match.start())
        rows.append((control[match.group()], match.start(), match.end()))
        position = match.end()
    add(position, len(text))
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Encoded(table[:, 0].astype(np.int32), table[:, 1], table[:, 2])


def _characters(text: str) -> Any:
    """Byte offset -> character offset. Example: "é!" -> [0, 1, 1, 2]: bytes 0 and 1 are é, byte 2 begins the "!"."""
    content = np.frombuffer(text.encode("utf-8"), np.uint8)
    if len(content) == len(text):
        return range(len(text) + 1)
    return np.concatenate([[0], np.cumsum((content & 0xC0) != 0x80)]).tolist()
