"""The SentencePiece vocabulary of the data folder, opened when a token is first needed."""

from __future__ import annotations

import functools

import seqio
import tensorflow as tf

from t5x_style.errors import UserError
from tasks import data_dir

MODEL_FILE = "tokenizer/sentencepiece.model"


@functools.cache
def _open(path: str) -> seqio.SentencePieceVocabulary:
    if not tf.io.gfile.exists(path):
        raise UserError(
            f"{path}: no tokenizer here; train one with `python -m beam_pipelines.train_tokenizer`, "
            f"or set {data_dir.VARIABLE} to a folder that has one"
        )
    return seqio.SentencePieceVocabulary(path)


class DataDirVocabulary(seqio.SentencePieceVocabulary):
    """A seqio.SentencePieceVocabulary whose file is found at first use, not when a Task is registered.

    Args:
      path: the model file; a relative path lies below the data folder (`tasks.data_dir`).
    """

    def __init__(self, path: str = MODEL_FILE):
        super().__init__(sentencepiece_model_file=path)

    @property
    def sentencepiece_model_file(self) -> str:
        """The file's full path."""
        return data_dir.resolve(self._sentencepiece_model_file)

    def _model_context(self):
        return _open(self.sentencepiece_model_file)._model_context()


VOCABULARY = DataDirVocabulary()
