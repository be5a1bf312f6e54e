"""Quality by a fastText classifier, LLaMA's "could Wikipedia cite this page" (https://arxiv.org/abs/2302.13971)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from beam_pipelines.quality import classifier
from beam_pipelines.quality.card import model_identity, read_card, require_model
from beam_pipelines.quality.text_form import CLASSIFIER_FORMS
from beam_pipelines.web.document import Document, Filter, Measure
from t5x_style.errors import UserError


@dataclass(frozen=True)
class FastTextQuality(Filter):
    """Keeps documents whose probability of `label` reaches the threshold; a text without words scores 0.

    `beam_pipelines.train_quality_classifier` makes such models.

    Attributes:
      model: path of a fastText model; each worker process reads it once.
      label: of the wanted documents.
      threshold: lowest score that is kept. LLaMA keeps .25 and above. DCLM's .018112 belongs to DCLM's own model,
        where it keeps a tenth of the documents.
      normalisation: how the text becomes one line: `fasttext`, `spaces`, or '' for what the model's card says, and
        `spaces` where it has none (DCLM's model and most others).

    Raises:
      UserError: no such file, a threshold outside 0 to 1, or an unknown normalisation.
    """

    model: str
    label: str = classifier.POSITIVE
    threshold: float = 0.25
    normalisation: str = ""
    name: str = "fasttext_quality"
    model_identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_model(self.model, "FastTextQuality.model")
        if not 0 <= self.threshold <= 1:
            raise UserError(f"FastTextQuality.threshold {self.threshold} is not between 0 and 1")
        if self.normalisation and self.normalisation not in CLASSIFIER_FORMS:
            known = ", ".join(CLASSIFIER_FORMS)
            raise UserError(f"FastTextQuality.normalisation {self.normalisation!r} is none of {known}")
        object.__setattr__(self, "model_identity", model_identity(self.model, "fasttext"))
        if not self.normalisation:
            card = read_card(self.model, "fasttext")
            object.__setattr__(self, "normalisation", card.get("normalisation", "spaces"))

    def measures(self, document: Document) -> Iterator[Measure]:
        """One signal, `quality_score`."""
        line = CLASSIFIER_FORMS[self.normalisation](document.text)
        score = classifier.score(classifier.load(self.model, self.label), line, self.label)
        yield Measure("quality_score", score, minimum=self.threshold)
