"""Parameters per language, chosen by people, as ROOTS did (Laurençon et al. 2022; https://arxiv.org/abs/2303.03915).

One JSON file per language, named by its ISO 639 code as language identification gives it, holds what differs from the
stage's own parameters, by the class of the stage:

    {"language": "German", "GopherQuality": {"max_mean_word_length": 12, "stop_words": ["der", "die", ...]}}

The packaged files (resources/language_parameters) were chosen for this library. Stop words are the most common
function words. Limits of the mean word length are at least a fifth away from that of a paragraph written in each
language and, in eleven of them, of encyclopedia articles and school exercises. Line lengths in Chinese, Japanese and
Korean are scaled by the length of the same text in these languages (.35, .47 and .6 of English).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from beam_pipelines.web.document import Document, DocumentStage, Measure, Outcome
from t5x_style.errors import UserError

PACKAGED = Path(__file__).parents[1] / "resources" / "language_parameters"


@dataclass(frozen=True)
class ByLanguage:
    """Runs a stage with the parameters of the document's language.

    Stands behind `Language` in a recipe. What a language does not set keeps the value it has in `stage`. The signal
    `language_parameters` counts the documents whose language has parameters (1) and has none (0).

    Example: ByLanguage(GopherQuality(min_words=30)) asks for 30 words in every language, and for German stop words in
    German.

    Attributes:
      stage: any document stage.
      folder: a folder of JSON files; None for the packaged ones.
      parameters: {language: {parameter: value}} of this stage, over those of the files. Becomes all that is used, so
        that a run's configuration holds every value.
      unknown: what becomes of documents in languages without parameters: the stage as it is (`default`), or
        rejected as `no_language_parameters` (`reject`).
      name: in the funnel; the stage's own if empty.

    Raises:
      UserError: a file that is missing or cannot be read, an unknown or impossible parameter.
    """

    stage: DocumentStage
    folder: str | None = None
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unknown: Literal["default", "reject"] = "default"
    name: str = ""

    def __post_init__(self) -> None:
        if self.unknown not in ("default", "reject"):
            raise UserError(f"ByLanguage.unknown must be 'default' or 'reject', not {self.unknown!r}")
        _check_stage(self.stage)
        merged = read_parameters(self.folder or PACKAGED, type(self.stage).__name__)
        for language, values in self.parameters.items():
            merged[language] = {**merged.get(language, {}), **values}
        object.__setattr__(self, "parameters", merged)
        object.__setattr__(self, "name", self.name or self.stage.name)
        _stages_by_language(self.stage, merged)  # a bad parameter ends the run before it starts

    @cached_property
    def _stages(self) -> Mapping[str, DocumentStage]:
        return _stages_by_language(self.stage, self.parameters)

    def apply(self, document: Document) -> Outcome:
        """What the language's stage does, and the signal `language_parameters`."""
        stage = self._stages.get(document.language)
        minimum = 1 if self.unknown == "reject" else None
        known = Measure("language_parameters", int(stage is not None), minimum, reason="no_language_parameters")
        if (verdict := known.verdict()).reason:
            return Outcome(document, verdict, [known])
        outcome = (stage or self.stage).apply(document)
        return outcome._replace(measures=[known, *outcome.measures])


def _check_stage(stage: Any) -> None:
    if isinstance(stage, type) or not dataclasses.is_dataclass(stage) or not isinstance(stage, DocumentStage):
        raise UserError(f"ByLanguage.stage must be a document stage, not {stage!r}")


def _stages_by_language(stage: Any, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, DocumentStage]:
    stages = {}
    allowed = {field.name for field in dataclasses.fields(stage)} - {"name"}
    for language, values in parameters.items():
        if unknown := sorted(values.keys() - allowed):
            raise UserError(f"language {language!r}: {type(stage).__name__} has no parameter {unknown[0]!r}")
        try:
            stages[language] = dataclasses.replace(stage, **values)
        except UserError as error:
            raise UserError(f"language {language!r}: {error}") from error
    return stages


def read_parameters(folder: str | Path, stage: str) -> dict[str, dict[str, Any]]:
    """{language: parameters of the stage's class} of all JSON files in a folder; {} where a file does not name it.

    Raises:
      UserError: no such folder, no file in it, a file that is not an object of objects.
    """
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise UserError(f"ByLanguage.folder: {str(folder)!r} holds no JSON file; name them by language, like de.json")
    found = {}
    for path in paths:
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{path} is not JSON: {error}") from error
        section = values.get(stage, {}) if isinstance(values, dict) else None
        if not isinstance(section, dict):
            raise UserError(f'{path} must hold an object of the form {{"{stage}": {{parameter: value}}}}')
        found[path.stem] = section
    return found
