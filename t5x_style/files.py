"""Small files written so that a reader never sees half of one, and fingerprints of what was read."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from t5x_style.errors import UserError


def atomic_write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes to a temporary name in the same folder, syncs, then renames over `path`."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | os.PathLike, text: str) -> None:
    """UTF-8 `atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike, value: Any) -> None:
    """Indented, key-ordered JSON, so that equal values give equal bytes."""
    atomic_write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike) -> Any:
    """Reads a JSON file; a broken one raises UserError naming the file and the place."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the step that writes it again") from error


def fingerprint(value: Any) -> str:
    """32 hex characters that depend only on `value`, anything JSON can hold (keys are ordered first)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_writable(folder: str | os.PathLike, name: str) -> Path:
    """Makes `folder` and proves that a file can be made in it.

    Args:
      folder: the folder.
      name: how the user knows it (`MODEL_DIR`, `--output`), for the message.

    Raises:
      UserError: the folder cannot be made or written to.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write_probe.{uuid.uuid4().hex}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"{name} {str(path)!r} cannot be written ({error.strerror}); choose another folder") from error
    return path
