"""The ids an objective may write: those of one source's vocabulary, as its cache knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from t5x_style.data.manifest import Manifest, VocabularyInfo
from t5x_style.data.vocabulary_facts import ENDS_CLAUSE, ENDS_SENTENCE, SPECIAL, STARTS_WORD, VocabularyFacts

_NONE: Mapping[str, int] = {}


class Ids(NamedTuple):
    """The special ids of a vocabulary, None where it has no such id, and what is known of all others.

    Attributes:
      size: ids there are; None: nobody knows (ids without a vocabulary).
      pad: what padding is filled with; 0 where the vocabulary has none, since padding is masked.
      start: what decoder_input_tokens begins a segment with.
      begin: what the tokenizer itself puts in front of a text; None: nothing.
      eos, mask, cls, sep, unk: by role.
      sentinels: <extra_id_0>, <extra_id_1>, ...: () where the vocabulary has none.
      named: text -> id of every control, user-defined and added token.
      starts_word, ends_sentence, ends_clause, special: bool [size]; None where the cache does not say.
      append_eos: features that the Task wants an EOS behind; the objective adds it, see `ended`.
    """

    size: int | None = None
    pad: int = 0
    start: int = 0
    begin: int | None = None
    eos: int | None = None
    mask: int | None = None
    cls: int | None = None
    sep: int | None = None
    unk: int | None = None
    sentinels: tuple[int, ...] = ()
    named: Mapping[str, int] = _NONE
    starts_word: np.ndarray | None = None
    ends_sentence: np.ndarray | None = None
    ends_clause: np.ndarray | None = None
    special: np.ndarray | None = None
    append_eos: frozenset[str] = frozenset()

    def ended(self, feature: str, tokens: np.ndarray) -> np.ndarray:
        """`tokens` of a feature, with EOS behind them where its Task wants one.

        Example: eos 1, append_eos {"targets"}: ended("targets", [5, 6]) is [5, 6, 1], ended("inputs", [5]) is [5].
        """
        if feature not in self.append_eos:
            return tokens
        assert self.eos is not None, "sources without an EOS that they need are refused when they are resolved"
        return np.append(tokens, np.int32(self.eos))


def ids_of(
    vocabulary: VocabularyInfo | None, facts: VocabularyFacts, start_id: int | None, manifest: Manifest | None = None
) -> Ids:
    """The ids of a source.

    Args:
      vocabulary, facts: of the features that its objective reads. start_id: the objective's, None: BOS or padding.
      manifest: of the source, for what ends with EOS.
    """
    size = None if vocabulary is None else vocabulary.size
    pad = 0 if vocabulary is None or vocabulary.pad_id is None else vocabulary.pad_id
    start = start_id if start_id is not None else None if vocabulary is None else vocabulary.bos_id
    roles, classes = facts.roles, facts.classes

    def bit(mask: int) -> np.ndarray | None:
        return None if classes is None else (classes & mask) != 0

    return Ids(
        size=size,
        pad=pad,
        start=pad if start is None else start,
        begin=roles.get("begin"),
        eos=None if vocabulary is None else vocabulary.eos_id,
        mask=roles.get("mask"),
        cls=roles.get("cls"),
        sep=roles.get("sep"),
        unk=None if vocabulary is None else vocabulary.unk_id,
        sentinels=_sentinels(facts.special),
        named=facts.special,
        starts_word=bit(STARTS_WORD),
        ends_sentence=bit(ENDS_SENTENCE),
        ends_clause=bit(ENDS_CLAUSE),
        special=bit(SPECIAL),
        append_eos=frozenset(() if manifest is None else manifest.append_eos),
    )


def _sentinels(special: Mapping[str, int]) -> tuple[int, ...]:
    found: list[int] = []
    while (name := f"<extra_id_{len(found)}>") in special:
        found.append(special[name])
    return tuple(found)
