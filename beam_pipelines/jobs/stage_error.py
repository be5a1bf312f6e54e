"""Errors of stages, told with the document they happened at."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Protocol

from t5x_style.errors import UserError

_LONGEST = 500  # characters of an error's own text: one with a whole page in it would hide the rest


class StageError(RuntimeError):
    """A stage failed on a document: a mistake in its code. The message is one line; the cause has the traceback."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class _Found(Protocol):
    """A page or a document."""

    @property
    def id(self) -> str: ...

    @property
    def url(self) -> str: ...


@contextlib.contextmanager
def naming(stage: _Named, item: _Found, batched: bool = False) -> Iterator[None]:
    """Whatever the block raises becomes a StageError that names the stage and the document; UserErrors stay.

    Args:
      stage, item: what runs on what.
      batched: the stage collects documents, so that the failing one may have come before `item`.

    Example: with naming(stage, document): stage.apply(document) -> "stage 'c4' (beam_pipelines.web.filters.c4.C4)
    failed on document 0f...: a.warc.gz, byte 512, http://a.org/: ValueError: ...".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        kind = f"{type(stage).__module__}.{type(stage).__qualname__}"
        place = ", ".join(part for part in (*_file_and_byte(item), item.url) if part)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        at = "a batch up to document" if batched else "document"
        raise StageError(f"stage {stage.name!r} ({kind}) failed on {at} {item.id}: {place}: {text}") from error


def _file_and_byte(item: _Found) -> tuple[str, str]:
    """Where a page or document was read; ('', '') for documents whose metadata does not say."""
    where = {name: getattr(item, name) for name in ("file", "offset") if hasattr(item, name)}
    if not where:
        with contextlib.suppress(ValueError, TypeError):
            found = json.loads(getattr(item, "metadata", ""))
            where = found if isinstance(found, dict) else {}
    return str(where.get("file", "")), f"byte {where['offset']}" if "offset" in where else ""
