"""Tokenizers as the training core sees them, and the one it trains with: a SentencePiece model without TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Protocol

from t5x_style import files
from t5x_style.data.vocabulary_facts import VocabularyFacts, facts_of_pieces
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

    def facts(self) -> VocabularyFacts:
        """Its special ids by text and role, and a class for every id: what a cache keeps of it."""
        ...

    def own_files(self) -> dict[str, bytes]:
        """The files that make it, by name, as a cache and a MODEL_DIR keep them."""
        ...


# Beside sentencepiece.model: {"extra_ids": 100}, what seqio adds to a model for T5's sentinels.
EXTRA_IDS_FILE = "extra_ids.json"


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
      size: number of pieces, extra ids included.
      pad_id, eos_id, unk_id, bos_id: special ids, None where the model has none.
      extra_ids: how many <extra_id_k> stand behind the model's own pieces, the last id being <extra_id_0> (seqio's and
        T5's order).
      fingerprint: SHA-256 of the model file's bytes, with "+100" behind it for 100 extra ids: the identity that
        manifests and checkpoints compare.
    """

    def __init__(self, path: str | os.PathLike, extra_ids: int | None = None):
        """Reads the model.

        Args:
          path: `sentencepiece.model`, or a folder that holds one.
          extra_ids: None: what an extra_ids.json beside the model says, else 0.

        Raises:
          UserError: the file is missing or is no SentencePiece model.
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
        beside = files.join(files.parent(given), EXTRA_IDS_FILE)
        if extra_ids is None:
            extra_ids = int(files.read_json(beside)["extra_ids"]) if files.is_file(beside) else 0
        self.extra_ids = extra_ids
        self._pieces: int = self._processor.get_piece_size()
        self.size: int = self._pieces + extra_ids
        self.pad_id = _present(self._processor.pad_id())
        self.eos_id = _present(self._processor.eos_id())
        self.unk_id = _present(self._processor.unk_id())
        self.bos_id = _present(self._processor.bos_id())
        self.fingerprint: str = files.file_sha256(self.path) + (f"+{extra_ids}" if extra_ids else "")

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """Ids of `text`, without BOS or EOS; with add_special_tokens the start id stands before them."""
        first = [start_id(self)] if add_special_tokens else []
        return first + self._processor.encode(text, out_type=int)

    def encode_batch(self, texts: Iterable[str], add_special_tokens: bool = False) -> list[list[int]]:
        """`encode` of every text, in one call."""
        first = [start_id(self)] if add_special_tokens else []
        return [first + ids for ids in self._processor.encode(list(texts), out_type=int)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; special pieces give nothing, ids outside a padded vocabulary give the unknown piece."""
        known = [int(token) for token in ids]
        if not any(self._pieces <= token < self.size for token in known):
            return self._decode(known)
        parts: list[str] = []
        run: list[int] = []
        for token in known:
            if self._pieces <= token < self.size:
                parts += [self._decode(run), self.piece(token)]
                run = []
            else:
                run.append(token)
        return " ".join(part for part in [*parts, self._decode(run)] if part)

    def _decode(self, ids: list[int]) -> str:
        unknown = [] if self.unk_id is None else [self.unk_id]
        return self._processor.decode(
            [part for token in ids for part in ([token] if 0 <= token < self._pieces else unknown)]
        )

    def piece(self, token: int) -> str:
        """The piece behind one id, for displays."""
        if self._pieces <= token < self.size:
            return f"<extra_id_{self.size - 1 - token}>"
        return self._processor.id_to_piece(int(token))

    def facts(self) -> VocabularyFacts:
        """Its control and user-defined pieces, and a class for every id; see vocabulary_facts.py."""
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto.FromString(self.path.read_bytes())
        # 2 unknown, 3 control, 4 user-defined (sentencepiece_model.proto, ModelProto.SentencePiece.Type)
        special = {piece.piece: token for token, piece in enumerate(proto.pieces) if piece.type in (2, 3, 4)}
        special |= {self.piece(token): token for token in range(self._pieces, self.size)}
        roles = {"pad": self.pad_id, "eos": self.eos_id, "bos": self.bos_id, "unk": self.unk_id}
        roles["begin"] = self.pad_id if self.bos_id is None else self.bos_id  # as `encode` does
        roles |= {role: special.get(name) for role, name in (("mask", "[MASK]"), ("cls", "[CLS]"), ("sep", "[SEP]"))}
        pieces = [piece.piece for piece in proto.pieces] + [""] * self.extra_ids
        control = [token for token, piece in enumerate(proto.pieces) if piece.type == 3]
        control += range(self._pieces, self.size)
        known = {role: token for role, token in roles.items() if token is not None}
        return facts_of_pieces(pieces, special, known, control)

    def own_files(self) -> dict[str, bytes]:
        """sentencepiece.model, and extra_ids.json where there are any."""
        own = {"sentencepiece.model": self.path.read_bytes()}
        if self.extra_ids:
            own[EXTRA_IDS_FILE] = b'{"extra_ids": %d}\n' % self.extra_ids
        return own


def _present(token: int) -> int | None:
    return token if token >= 0 else None
