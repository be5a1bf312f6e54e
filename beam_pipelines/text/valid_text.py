"""Text that UTF-8 and Parquet can hold."""

from __future__ import annotations


def valid_text(text: str) -> str:
    """`text` without what UTF-8 cannot hold (lone surrogates become `?`) and without NUL bytes."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text
