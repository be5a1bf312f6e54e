"""What a vocabulary is: its fingerprint, its size and its special ids.

A fingerprint hashes the file or the whole definition of a vocabulary, never its class and size: one that is changed in
place is another one.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from beam_pipelines.caching import sentencepiece_files, wordpiece_files
from t5x_style.data.manifest import VocabularyInfo
from t5x_style.errors import UserError

SPECIAL = ("pad_id", "eos_id", "bos_id", "unk_id")


def vocabulary_fingerprint(vocabulary: seqio.Vocabulary) -> str | None:
    """Identity of a vocabulary; None for pass-through ids without an EOS, of which nothing is known.

    SentencePiece: SHA-256 of the model's bytes, with "+100" behind it for 100 extra ids. WordPiece: SHA-256 of the
    tokenizer.json that the cache keeps. Others: SHA-256 of their whole definition.

    Raises:
      UserError: its file cannot be read, or a class of one's own that cannot be described.
    """
    if isinstance(vocabulary, seqio.PassThroughVocabulary) and vocabulary.eos_id is None:
        return None
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return sentencepiece_files.fingerprint(vocabulary)
    if isinstance(vocabulary, seqio.BertWordPieceVocabulary):
        kept = wordpiece_files.own_files(vocabulary)
        if kept:
            return hashlib.sha256(kept[wordpiece_files.PIPELINE]).hexdigest()
    return _digest(definition(vocabulary))


def definition(vocabulary: seqio.Vocabulary) -> Any:
    """All that decides which id stands for what, as JSON."""
    kind = f"{type(vocabulary).__module__}.{type(vocabulary).__qualname__}"
    if isinstance(vocabulary, seqio.BertWordPieceVocabulary):
        return [kind, wordpiece_files.definition(vocabulary)]
    known: dict[str, Any] = {"extra_ids": vocabulary.extra_ids}
    if type(vocabulary) is seqio.ByteVocabulary or type(vocabulary) is seqio.vocabularies.FullCodepointVocabulary:
        return [kind, {**known, "eos": vocabulary.eos_id}]
    if type(vocabulary) is seqio.vocabularies.PartialCodepointVocabulary:
        return [kind, {**known, "codepoints": sorted(vocabulary._id_to_codepoint.items())}]
    if type(vocabulary) is seqio.vocabularies.UnigramVocabulary:
        return [kind, {**known, "unigrams": vocabulary._unigram_by_id, "split": vocabulary._split_on_space}]
    if isinstance(vocabulary, seqio.PassThroughVocabulary):
        return [kind, {**known, "size": vocabulary.size, "eos": vocabulary.eos_id}]
    return [kind, {**known, "size": int(vocabulary.vocab_size), **_own_definition(vocabulary)}]


def _own_definition(vocabulary: seqio.Vocabulary) -> dict[str, Any]:
    """Of a class of one's own: its source, its attributes, the files they name; where those say little, every text."""
    found: dict[str, Any] = {}
    opaque = False
    for name, value in sorted(vars(vocabulary).items()):
        described = _described(value)
        opaque |= described is None and value is not None
        found[name] = described
    try:
        found["source"] = inspect.getsource(type(vocabulary))
    except (OSError, TypeError):
        opaque = True
    if opaque:
        found["texts"] = _all_texts(vocabulary)
    return found


def _all_texts(vocabulary: seqio.Vocabulary) -> list[str]:
    try:
        return [str(vocabulary.decode([token])) for token in range(int(vocabulary.vocab_size))]
    except Exception as error:
        raise UserError(
            f"vocabulary {type(vocabulary).__qualname__}: it cannot be told from another one "
            f"({type(error).__name__}: {error}); keep its definition in plain attributes, or a path to its file"
        ) from error


def _described(value: Any) -> Any:
    """A plain value or the content of a file as JSON; None for what neither is."""
    if isinstance(value, str):
        if "\n" not in value and len(value) < 4096 and value and tf.io.gfile.exists(value):
            return (
                None if tf.io.gfile.isdir(value) else hashlib.sha256(sentencepiece_files.read_file(value)).hexdigest()
            )
        return value
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, (list, tuple)):
        parts = [_described(part) for part in value]
        return None if any(part is None and own is not None for part, own in zip(parts, value)) else parts
    if isinstance(value, (set, frozenset)):
        return _described(sorted(value, key=repr))
    if isinstance(value, Mapping):
        return _described([[key, part] for key, part in value.items()])
    return None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def special_id(vocabulary: seqio.Vocabulary, name: str, size: int | None) -> int | None:
    """A special id; None where the vocabulary has none, or one that is not among its ids.

    Three of seqio's vocabularies raise NotImplementedError for bos_id; WordPiece's EOS is 102 unless told otherwise.
    """
    try:
        value = getattr(vocabulary, name)
    except (NotImplementedError, AttributeError):
        return None
    if value is None or int(value) < 0 or (size is not None and int(value) >= size):
        return None
    return int(value)


def vocabulary_size(vocabulary: seqio.Vocabulary) -> int | None:
    """Number of ids, extra ids included; None where nobody knows (a PassThroughVocabulary of size 0).

    Raises:
      UserError: its file is not there.
    """
    if isinstance(vocabulary, seqio.BertWordPieceVocabulary):
        return wordpiece_files.size_of(vocabulary)
    try:
        return int(vocabulary.vocab_size) or None
    except tf.errors.OpError as error:
        path = getattr(vocabulary, "sentencepiece_model_file", type(vocabulary).__qualname__)
        raise UserError(sentencepiece_files.MISSING.format(path)) from error


def vocabulary_info(vocabulary: seqio.Vocabulary) -> VocabularyInfo:
    """Size and special ids; None where there is no such id."""
    size = vocabulary_size(vocabulary)
    path = getattr(vocabulary, "sentencepiece_model_file", None) or getattr(vocabulary, "_vocab_lookup_table", "")
    ids = {name: special_id(vocabulary, name, size) for name in SPECIAL}
    if isinstance(vocabulary, seqio.BertWordPieceVocabulary):
        ids["bos_id"] = special_id(vocabulary, "sos_id", size)
    kind = f"{type(vocabulary).__module__}.{type(vocabulary).__qualname__}"
    return VocabularyInfo(kind, str(path), size or 0, **ids)
