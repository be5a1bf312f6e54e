"""Exact deduplication: of documents with the same text, the first in input order stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from beam_pipelines.web.dedup import KeyDedup
from beam_pipelines.web.document import Document


@dataclass(frozen=True)
class ExactDedup(KeyDedup):
    """Drops documents whose text, byte for byte, came before; compared as 128-bit hashes.

    Attributes:
      hash_ranges: parts of the shuffle; more for larger corpora (about a gigabyte of keys a part, 24 bytes a document).
    """

    hash_ranges: int = 4
    name: str = "exact_dedup"

    reason: ClassVar[str] = "duplicate"
    bands: ClassVar[int] = 1
    width: ClassVar[int] = 2

    def keys(self, documents: Sequence[Document]) -> tuple[np.ndarray, np.ndarray]:
        """See `dedup.KeyDedup`: every document has one key, of two words."""
        import xxhash

        digests = b"".join(xxhash.xxh3_128_digest(document.text.encode("utf-8")) for document in documents)
        keys = np.frombuffer(digests, dtype=">u8").astype(np.uint64).reshape(len(documents), 1, 2)
        return np.arange(len(documents)), keys
