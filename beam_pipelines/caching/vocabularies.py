"""What the manifest says about a Task's features and vocabularies."""

from __future__ import annotations

import hashlib

import seqio
import tensorflow as tf

from t5x_style.data.examples import id_storage
from t5x_style.data.manifest import Feature, VocabularyInfo
from t5x_style.errors import UserError

INTEGER_TYPES = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint16, tf.bool)
FLOAT_TYPES = (tf.float16, tf.bfloat16, tf.float32, tf.float64)


def vocabulary_fingerprint(vocabulary: seqio.Vocabulary) -> str | None:
    """Identity of a vocabulary: SHA-256 of a SentencePiece model's bytes; None for pass-through ids.

    Extra ids make another vocabulary of the same file and are appended to the hash.

    Raises:
      UserError: the model file cannot be read.
    """
    if isinstance(vocabulary, seqio.PassThroughVocabulary):
        return None
    extra = f"+{vocabulary.extra_ids}" if vocabulary.extra_ids else ""
    path = getattr(vocabulary, "sentencepiece_model_file", None)
    if path is None:
        name = f"{type(vocabulary).__module__}.{type(vocabulary).__qualname__}/{vocabulary.vocab_size}"
        return hashlib.sha256(name.encode()).hexdigest() + extra
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest() + extra
    except tf.errors.OpError as error:
        raise UserError(f"{path}: no tokenizer can be read here; train one or correct the Task's path") from error


def vocabulary_info(vocabulary: seqio.Vocabulary) -> VocabularyInfo:
    """Size and special ids; None where there is no such id."""

    def special(name: str) -> int | None:
        try:
            value = getattr(vocabulary, name, None)
        except NotImplementedError:  # BertWordPieceVocabulary and others
            return None
        return None if value is None or int(value) < 0 else int(value)

    return VocabularyInfo(
        class_name=f"{type(vocabulary).__module__}.{type(vocabulary).__qualname__}",
        path=str(getattr(vocabulary, "sentencepiece_model_file", "")),
        size=int(vocabulary.vocab_size),
        pad_id=special("pad_id"),
        eos_id=special("eos_id"),
        bos_id=special("bos_id"),
        unk_id=special("unk_id"),
    )


def describe_features(task: seqio.Task) -> tuple[dict[str, Feature], dict[str, VocabularyInfo]]:
    """Features of a Task, and its vocabularies by fingerprint.

    Raises:
      UserError: a feature that a token shard cannot hold (it holds flat lists of integers or floats).
    """
    features: dict[str, Feature] = {}
    vocabularies: dict[str, VocabularyInfo] = {}
    for name, feature in task.output_features.items():
        where = f"Task {task.name!r}: feature {name!r}"
        if feature.rank != 1:
            raise UserError(f"{where} has rank {feature.rank}; a token shard holds features of rank 1")
        if feature.dtype not in INTEGER_TYPES + FLOAT_TYPES:
            raise UserError(f"{where} is {feature.dtype.name}; a token shard holds integers or floats")
        floats = feature.dtype in FLOAT_TYPES
        fingerprint = None if floats else vocabulary_fingerprint(feature.vocabulary)
        if fingerprint is not None:
            vocabularies[fingerprint] = vocabulary_info(feature.vocabulary)
        # Example records hold floats as float32.
        dtype = "float32" if floats else feature.dtype.name
        kind = "numbers" if floats else "ids"
        size = None if fingerprint is None else vocabularies[fingerprint].size
        stored = "list" if floats else id_storage(size)
        features[name] = Feature(dtype, 1, bool(feature.add_eos) and not floats, fingerprint, kind, stored)
    return features, vocabularies
