"""CCNet's perplexity buckets: how much a document reads like the language model's text."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from beam_pipelines.quality.buckets import (
    BUCKETS,
    Scorer,
    bucket_of,
    check_keep,
    read_thresholds,
    resolve_sentences,
)
from beam_pipelines.quality.card import model_identity, require_model
from beam_pipelines.web.document import KEEP, Document, Measure, Outcome, Verdict
from t5x_style.errors import UserError


@dataclass(frozen=True)
class PerplexityBuckets:
    """Writes `perplexity` and `bucket` into the metadata and keeps documents of some buckets.

    Perplexity by token, every line a sentence whose end counts: 10 ** (-log10 p / (tokens + sentences)). `head` goes up
    to the first threshold, `middle` up to the second, `tail` beyond. Documents without words are rejected.

    Attributes:
      model: path of an n-gram model (`beam_pipelines.train_ngram_lm`: lm.npz, or lm.arpa, which is read slower); each
        worker process reads it once.
      thresholds: (head, tail), or the file that `beam_pipelines.perplexity_thresholds` wrote: CCNet takes the 30th and
        60th percentiles of documents of the same language.
      keep: buckets that stay.
      normalisation, sentencepiece: for models without a card, how text becomes tokens (see `text_form.Sentences`).
      reader: `own` or `kenlm`.

    Raises:
      UserError: a file that is not there, thresholds that fall or are another model's, an unknown bucket or reader.
    """

    model: str
    thresholds: Sequence[float] | str
    keep: Sequence[str] = ("head", "middle")
    normalisation: str = ""
    sentencepiece: str = ""
    reader: str = "own"
    name: str = "perplexity"
    scorer: Scorer = field(init=False, repr=False)
    model_identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_model(self.model, "PerplexityBuckets.model")
        if isinstance(self.thresholds, str):
            limits: Sequence[float] = read_thresholds(self.thresholds, self.model)
        else:
            limits = tuple(self.thresholds)
        if len(limits) != 2 or not 0 < limits[0] <= limits[1] < math.inf:
            raise UserError(f"PerplexityBuckets.thresholds {list(limits)}: two rising numbers above 0")
        object.__setattr__(self, "thresholds", limits)
        object.__setattr__(self, "keep", check_keep(self.keep, "PerplexityBuckets.keep"))
        sentences = resolve_sentences(self.model, self.normalisation, self.sentencepiece)
        object.__setattr__(self, "model_identity", model_identity(self.model, "ngram_lm"))
        object.__setattr__(self, "scorer", Scorer(self.model, sentences, self.reader))

    def apply(self, document: Document) -> Outcome:
        """The document with its perplexity and bucket."""
        perplexity = self.scorer.perplexity(document.text)
        if perplexity is None:
            return Outcome(document, Verdict("no_words", 0.0, 1.0))
        head, tail = (float(limit) for limit in self.thresholds)
        bucket = bucket_of(perplexity, head, tail)
        metadata = {**json.loads(document.metadata or "{}"), "perplexity": round(perplexity, 3), "bucket": bucket}
        document = document.replace(metadata=json.dumps(metadata, ensure_ascii=False))
        verdict = KEEP
        if bucket not in self.keep:
            verdict = Verdict(f"bucket_{bucket}", perplexity, tail if bucket == "tail" else head)
        return Outcome(document, verdict, (Measure("perplexity", perplexity, *self._limits(head, tail)),))

    def _limits(self, head: float, tail: float) -> tuple[float | None, float | None]:
        """The kept range for the report's histogram: around the lowest and the highest bucket that is kept."""
        kept = [index for index, bucket in enumerate(BUCKETS) if bucket in self.keep]
        return (None, head, tail)[kept[0]], (head, tail, None)[kept[-1]]
