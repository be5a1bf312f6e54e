"""The tokenizer as the training core sees it: a SentencePiece model without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from t5x_style.errors import UserError
from t5x_style.files import file_sha256


class Vocabulary:
    """A SentencePiece model: text to ids and back, its special ids, its fingerprint.

    Attributes:
      path: the model file.
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

        self.path = Path(path)
        if self.path.is_dir():
            self.path = self.path / "sentencepiece.model"
        if not self.path.is_file():
            raise UserError(f"vocabulary {str(self.path)!r} does not exist; train one or correct the path")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (RuntimeError, OSError) as error:
            raise UserError(f"vocabulary {str(self.path)!r} is not a SentencePiece model ({error})") from error
        self.size: int = self._processor.get_piece_size()
        self.pad_id: int = self._processor.pad_id()
        self.eos_id: int = self._processor.eos_id()
        self.unk_id: int = self._processor.unk_id()
        bos_id = self._processor.bos_id()
        self.bos_id: int | None = bos_id if bos_id >= 0 else None
        if self.pad_id < 0 or self.eos_id < 0:
            raise UserError(
                f"vocabulary {str(self.path)!r} has no padding or no end-of-text id "
                f"(pad {self.pad_id}, eos {self.eos_id}); train it with --pad_id=0 --eos_id=1"
            )
        self.fingerprint: str = file_sha256(self.path)

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without BOS or EOS."""
        return self._processor.encode(text, out_type=int)

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """`encode` of every text, in one call."""
        return self._processor.encode(list(texts), out_type=int)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special pieces give nothing, ids outside a padded vocabulary give the unknown piece."""
        known = (int(token) for token in ids)
        return self._processor.decode([token if 0 <= token < self.size else self.unk_id for token in known])

    def piece(self, token: int) -> str:
        """The piece behind one id, for displays."""
        return self._processor.id_to_piece(int(token))
