"""Small files written so that a reader never sees half of one, and fingerprints of what was read."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from t5x_style.errors import UserError
from t5x_style.files import storage
from t5x_style.files.paths import Where, is_remote


def atomic_write_bytes(path: Where, content: bytes) -> None:
    """Writes a file, local or remote, that readers see whole or not at all."""
    storage.write_bytes(path, content)


def atomic_write_text(path: Where, text: str) -> None:
    """UTF-8 `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: Where, value: Any) -> None:
    """Indented, key-ordered JSON, so that equal values give equal bytes."""
    atomic_write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Where) -> Any:
    """Reads a JSON file; a broken one raises UserError naming the file and the place."""
    try:
        return json.loads(storage.read_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the step that writes it again") from error


def fingerprint(value: Any) -> str:
    """32 hex characters that depend only on `value`, anything JSON can hold (keys are ordered first)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def file_sha256(path: Where) -> str:
    """SHA-256 of a file's bytes, in hex."""
    if is_remote(path):
        return hashlib.sha256(storage.read_bytes(path)).hexdigest()
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
