"""Writes what a cache keeps of its vocabularies: vocabularies/<fingerprint>/ (t5x_style/data/vocabulary_facts.py)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import seqio

from beam_pipelines.caching import sentencepiece_files, wordpiece_files
from beam_pipelines.caching.vocabularies import SPECIAL, special_id, vocabulary_fingerprint, vocabulary_size
from t5x_style.data.vocabulary_facts import STARTS_WORD, VocabularyFacts, facts_of_pieces, write_facts
from t5x_style.errors import UserError

NAMES = {"pad": "<pad>", "eos": "</s>", "bos": "<s>", "unk": "<unk>"}


def facts_and_files(vocabulary: seqio.Vocabulary) -> tuple[VocabularyFacts, dict[str, bytes]]:
    """The facts of a vocabulary, and the files of its tokenizer ({}: there are none).

    Worked example: ByteVocabulary(extra_ids=2) has <pad> 0, </s> 1, <unk> 2, the bytes 3 to 258, <extra_id_1> 259 and
    <extra_id_0> 260: seqio's order, in which the last id is the first sentinel. Of the bytes, those of ASCII are known
    as characters: "." and others end a sentence, a blank starts a word.
    """
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
        return sentencepiece_files.facts_and_files(vocabulary)
    if isinstance(vocabulary, seqio.BertWordPieceVocabulary):
        return wordpiece_files.facts_and_files(vocabulary)
    size = vocabulary_size(vocabulary) or 0
    found = {name.removesuffix("_id"): special_id(vocabulary, name, size) for name in SPECIAL}
    roles = {role: token for role, token in found.items() if token is not None}
    special = {NAMES[role]: token for role, token in roles.items()}
    if isinstance(vocabulary, seqio.PassThroughVocabulary):  # its ids are those of a vocabulary that nobody names
        roles, special = ({"eos": roles["eos"]}, {NAMES["eos"]: roles["eos"]}) if "eos" in roles else ({}, {})
        return VocabularyFacts(special, roles), {}
    special |= {f"<extra_id_{k}>": size - 1 - k for k in range(vocabulary.extra_ids)}
    pieces = _pieces(vocabulary)
    if pieces is None:
        return VocabularyFacts(special, roles), {}
    facts = facts_of_pieces(pieces + [""] * (size - len(pieces)), special, roles)
    if isinstance(vocabulary, seqio.vocabularies.UnigramVocabulary) and facts.classes is not None:
        words = np.array([token not in special.values() for token in range(size)])
        facts.classes[words] |= STARTS_WORD  # every entry is a word
    return facts, {}


def _pieces(vocabulary: seqio.Vocabulary) -> list[str] | None:
    """The text of every id but the extra ones; None for a class of one's own."""
    if isinstance(vocabulary, seqio.ByteVocabulary):
        return [""] * 3 + [chr(byte) if byte < 128 else "" for byte in range(256)]
    if isinstance(vocabulary, seqio.vocabularies.FullCodepointVocabulary):
        return [chr(point) for point in range(vocabulary.LARGEST_CODEPOINT)]
    if isinstance(vocabulary, seqio.vocabularies.PartialCodepointVocabulary):
        return [chr(vocabulary._id_to_codepoint[token]) for token in range(len(vocabulary._id_to_codepoint))]
    if isinstance(vocabulary, seqio.vocabularies.UnigramVocabulary):
        return list(vocabulary._unigram_by_id)
    return None


def keep(output: str, vocabularies: Mapping[str, seqio.Vocabulary]) -> None:
    """Writes the folder of every vocabulary that has none.

    Args:
      vocabularies: by the fingerprint they had when the run was planned.

    Raises:
      UserError: one was changed since.
    """
    for fingerprint, vocabulary in vocabularies.items():
        if vocabulary_fingerprint(vocabulary) != fingerprint:
            kind = type(vocabulary).__qualname__
            raise UserError(f"the file of a {kind} was changed while its ids were cached; run the same command again")
        write_facts(output, fingerprint, *facts_and_files(vocabulary))
