"""Tokenizers as the training core sees them, and the one it trains with: a SentencePiece model without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from t5x_style import files
from t5x_style.errors import UserError


class Tokenizer(Protocol):
    """Text to ids and back: a SentencePiece model (`Vocabulary`) or the files of a Hugging Face folder.

    Attributes:
      size: number of ids. pad_id, eos_id, bos_id, unk_id: special ids, None where there is none.
      fingerprint: SHA-256 of the vocabulary's file, the identity that manifests compare.
    """

    @property
    def size(self) -> int: ...

    @property
    def pad_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def bos_id(self) -> int | None: ...

    @property
    def unk_id(self) -> int | None: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`; add_special_tokens puts around it what the model expects (the start id; CLS and SEP; ...)."""
        ...

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[list[int]]:
        """`encode` of every text."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special ids give nothing."""
        ...

    def piece(self, token: int) -> str:
        """The piece behind one id, for displays."""
        ...


def start_id(tokenizer: Tokenizer) -> int:
    """What every row of a decoder begins with: BOS, or padding where there is none (the training objectives' rule).

    Raises:
      UserError: it has neither.
    """
    start = tokenizer.pad_id if tokenizer.bos_id is None else tokenizer.bos_id
    if start is None:
        raise UserError("the tokenizer has no BOS and no padding id to begin a row with; name one in its configuration")
    return start


class Vocabulary:
    """A SentencePiece model: text to ids and back, its special ids, its fingerprint.

    Attributes:
      path: the model file, of a URL its local copy.
      size: number of pieces.
      pad_id, eos_id, unk_id: special ids. bos_id: the same, or None when the model has none.
      fingerprint: SHA-256 of the model file's bytes, the identity that manifests and checkpoints compare.
    """

    def __init__(self, path: str | os.PathLike):
        """Reads the model.

        Args:
          path: `sentencepiece.model`, or a folder that holds one.

        Raises:
          UserError: the file is missing or is no SentencePiece model, or it lacks a padding or an end-of-text id.
        """
        import sentencepiece

        given = files.join(path, "sentencepiece.model") if files.is_dir(path) else files.path_of(path)
        if not files.is_file(given):
            raise UserError(f"vocabulary {given!r} does not exist; train one or correct the path")
        self.path = files.local_copy(given)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"vocabulary {given!r} is not a SentencePiece model ({error})") from error
        self.size: int = self._processor.get_piece_size()
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        bos_id = self._processor.bos_id()
        self.bos_id: int | None = bos_id if bos_id >= 0 else None
        if self.pad_id < 0 or self.eos_id < 0:
            raise UserError(
                f"vocabulary {given!r} has no padding or no end-of-text id "
                f"(pad {self.pad_id}, eos {self.eos_id}); train it with --pad_id=0 --eos_id=1"
            )
        self.fingerprint: str = files.file_sha256(self.path)

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`, without BOS or EOS; with add_special_tokens the start id stands before them."""
        return [start_id(self)] * add_special_tokens + self._processor.encode(text, out_type=int)

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[list[int]]:
        """`encode` of every text, in one call."""
        first = [start_id(self)] * add_special_tokens
        return [first + ids for ids in self._processor.encode(list(texts), out_type=int)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special pieces give nothing, ids outside a padded vocabulary give the unknown piece."""
        known = (int(token) for token in ids)
        return self._processor.decode([token if 0 <= token < self.size else self.unk_id for token in known])

    def piece(self, token: int) -> str:
        """The piece behind one id, for displays."""
        return self._processor.id_to_piece(int(token))
