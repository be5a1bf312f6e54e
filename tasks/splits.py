"""Which split an object or a document belongs to: a stable hash of its key, 90 / 5 / 5."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SPLITS = ("train", "validation", "test")
# Upper bounds of the parts in 1/100; the last part is what remains.
TRAIN_BELOW = 90
VALIDATION_BELOW = 95


def stable_hash(key: str) -> int:
    """64 bits of blake2b of the UTF-8 key: equal in every process, machine and Python version."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def split_of(key: str) -> str:
    """`train`, `validation` or `test`, by `stable_hash(key) % 100`.

    Example:
      split_of("numpy.linalg.norm") == "train"
    """
    part = stable_hash(key) % 100
    if part < TRAIN_BELOW:
        return "train"
    return "validation" if part < VALIDATION_BELOW else "test"


def document_key(identifier: str, metadata: str) -> str:
    """Key of a document: the qualified name of an object page, the id of any other document.

    Args:
      identifier: column `id` of the documents.
      metadata: column `metadata` of the documents, JSON; `meta.object` is the object that the page is about.
    """
    if '"object"' not in metadata:  # most web pages: not worth parsing
        return identifier
    meta = json.loads(metadata).get("meta") or {}
    return meta.get("object") or identifier


def split_of_document(row: Mapping[str, Any]) -> str:
    """Split of a row with the columns `id` and `metadata`."""
    return split_of(document_key(row["id"], row["metadata"]))
