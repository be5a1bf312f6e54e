"""A SentencePieceVocabulary as the cache keeps it: the model that is really in use, under its fingerprint."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import seqio
import tensorflow as tf

from t5x_style.data.vocabulary import Vocabulary
from t5x_style.data.vocabulary_facts import VocabularyFacts
from t5x_style.errors import UserError

MISSING = "{}: no tokenizer can be read here; train one or correct the Task's path"


def read_file(path: str) -> bytes:
    """The bytes of a vocabulary's file, local or of a store.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise UserError(MISSING.format(path)) from error


def _model(vocabulary: seqio.SentencePieceVocabulary) -> tuple[bytes, int]:
    """The model and how many extra ids stand behind it.

    The file as it is, unless options of seqio's make another model of it: then that one, with extra ids that are
    numbered upwards as pieces of its own.
    """
    overrides, count = vocabulary._normalizer_spec_overrides, vocabulary.extra_ids
    content = read_file(vocabulary.sentencepiece_model_file)
    upwards = bool(count) and not vocabulary._reverse_extra_ids
    if overrides is None and not upwards:
        return content, count
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(content)
    if overrides is not None:
        proto.normalizer_spec.MergeFrom(overrides)
        proto.denormalizer_spec.MergeFrom(overrides)
    if upwards:
        kind = sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
        for number in range(count):
            proto.pieces.add(piece=f"▁<extra_id_{number}>", score=0.0, type=kind)
    return proto.SerializeToString(deterministic=True), 0 if upwards else count


def fingerprint(vocabulary: seqio.SentencePieceVocabulary) -> str:
    """SHA-256 of the model and "+N" for N extra ids, as `t5x_style.data.vocabulary.Vocabulary` has it.

    Raises:
      UserError: the file cannot be read.
    """
    content, count = _model(vocabulary)
    return hashlib.sha256(content).hexdigest() + (f"+{count}" if count else "")


def facts_and_files(vocabulary: seqio.SentencePieceVocabulary) -> tuple[VocabularyFacts, dict[str, bytes]]:
    """What the cache keeps of it.

    Raises:
      UserError: the file cannot be read, or is no model.
    """
    content, count = _model(vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sentencepiece.model"
        path.write_bytes(content)
        own = Vocabulary(path, extra_ids=count)
        facts, kept = own.facts(), own.own_files()
    upwards = {text.removeprefix("▁"): token for text, token in facts.special.items() if text.startswith("▁<extra_id_")}
    return VocabularyFacts({**upwards, **facts.special}, facts.roles, facts.classes), kept
