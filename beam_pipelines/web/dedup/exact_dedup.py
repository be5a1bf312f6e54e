"""Exact deduplication: of documents with the same text, the first in input order stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from beam_pipelines.web.dedup.hashing import text_hashes
from beam_pipelines.web.dedup.key_dedup import MAX_EDGES_IN_MEMORY, KeyDedup, check_positive
from beam_pipelines.web.document import Document


@dataclass(frozen=True)
class ExactDedup(KeyDedup):
    """Drops documents whose text came before, compared as 128-bit hashes; hash and row are 20 bytes in the shuffle.

    Attributes:
      normalised: whether texts that differ only in case and in their spaces and line breaks count as the same;
        otherwise every byte counts.
      hash_ranges: parts of the shuffle; a part needs about 80 bytes of memory a document.
      max_edges_in_memory: see `KeyDedup`.

    Raises:
      UserError: a number below 1.
    """

    normalised: bool = False
    hash_ranges: int = 4
    max_edges_in_memory: int = MAX_EDGES_IN_MEMORY
    name: str = "exact_dedup"

    reason: ClassVar[str] = "duplicate"
    bands: ClassVar[int] = 1
    width: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_positive(self, "hash_ranges", "max_edges_in_memory")

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: every document has one key, of two words."""
        texts = [document.text for document in documents]
        if self.normalised:
            texts = [normalised(text) for text in texts]
        return np.arange(len(documents)), text_hashes(texts)[:, None]


def normalised(text: str) -> str:
    """Lower case, with one space where there was any white space, none at the ends.

    Example: "A  b\\n\\nC " -> "a b c".
    """
    return " ".join(text.lower().split())
