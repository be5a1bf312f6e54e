"""Which split an object or a document belongs to: a stable hash of its key, 90 / 5 / 5."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from t5x_style.errors import UserError

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


def page_key(name: str, module: str) -> str:
    """What decides the split of an object page: its name; for a method that of its class, whose page repeats it.

    Example:
      page_key("json.decoder.JSONDecoder.decode", "json.decoder") == "json.decoder.JSONDecoder"
    """
    prefix = f"{module}."
    if not module or not name.startswith(prefix):
        return name
    return prefix + name.removeprefix(prefix).split(".", 1)[0]


def document_key(identifier: str, metadata: str) -> str:
    """What decides the split of a document: `page_key` of an object page, the id of any other document.

    Args:
      identifier: column `id` of the documents.
      metadata: column `metadata` of the documents, JSON; `meta.object` is the object that the page is about.

    Raises:
      UserError: the metadata is not JSON.
    """
    if '"object"' not in metadata:  # most web pages: not worth parsing
        return identifier
    try:
        meta = json.loads(metadata).get("meta") or {}
    except (json.JSONDecodeError, AttributeError) as error:
        raise UserError(
            f"document {identifier}: metadata is not a JSON object ({error}); clean the crawl again"
        ) from error
    name = meta.get("object")
    return page_key(name, meta.get("module") or "") if name else identifier


def split_of_document(row: Mapping[str, Any]) -> str:
    """Split of a row with the columns `id` and `metadata`."""
    return split_of(document_key(row["id"], row["metadata"]))
