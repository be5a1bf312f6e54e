"""Perplexity of documents and the buckets made of it (CCNet, Wenzek et al. 2020, https://arxiv.org/abs/1911.00359)."""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_pipelines.files import storage
from beam_pipelines.quality import reader
from beam_pipelines.quality.card import read_card
from beam_pipelines.quality.text_form import Sentences
from t5x_style.errors import UserError

BUCKETS = ("head", "middle", "tail")
PERCENTILES = (30.0, 60.0)  # CCNet's, of a sample of documents of the same language
READERS = ("own", "kenlm")
_LOCK = threading.Lock()
_KENLM: dict[str, Any] = {}  # path -> kenlm.Model, one per process


def bucket_of(perplexity: float, head: float, tail: float) -> str:
    """`head` up to the first threshold, `middle` up to the second, `tail` beyond.

    Example: bucket_of(300.0, 300.0, 700.0) == "head".
    """
    return "head" if perplexity <= head else "middle" if perplexity <= tail else "tail"


def read_thresholds(path: str, model: str) -> tuple[float, float]:
    """(head, tail) of a file that `beam_pipelines.perplexity_thresholds` wrote.

    Raises:
      UserError: no such file, or it was made with another model than `model`.
    """
    if not storage.exists(path):
        raise UserError(f"thresholds {path!r} do not exist; beam_pipelines.perplexity_thresholds writes them")
    content = storage.read_json(path)
    if not isinstance(content, dict) or content.get("kind") != "perplexity_thresholds":
        raise UserError(f"{path}: not a file of perplexity thresholds")
    fingerprint = read_card(model, "ngram_lm").get("fingerprint", "")
    if content["config"]["model"] != fingerprint:
        raise UserError(f"{path}: made with another model than {model}; run beam_pipelines.perplexity_thresholds again")
    return float(content["head"]), float(content["tail"])


def resolve_sentences(model: str, normalisation: str, sentencepiece: str) -> Sentences:
    """How text is split for a model: as its card says, unless the parameters say otherwise.

    Args:
      model: path of the model.
      normalisation: '' for the card's.
      sentencepiece: '' for the card's where the normalisation is also the card's.

    Raises:
      UserError: neither says it.
    """
    if normalisation:
        return Sentences(normalisation, sentencepiece)
    card = read_card(model, "ngram_lm")
    if not card:
        raise UserError(f"{model} has no card beside it; set its normalisation (words, ccnet or none)")
    pieces = card["sentencepiece"]
    own = posixpath.join(posixpath.dirname(model), pieces) if pieces else ""
    return Sentences(card["normalisation"], sentencepiece or own)


@dataclass(frozen=True)
class Scorer:
    """Computes perplexities with one model.

    Attributes:
      model: path of an ARPA file or saved tables; for kenlm of an ARPA or kenlm's binary file.
      sentences: how text is split.
      reader: `own`, or `kenlm`, twice as fast, where that package is installed; they agree to five digits.

    Raises:
      UserError: an unknown reader, or kenlm is not installed.
    """

    model: str
    sentences: Sentences
    reader: str = "own"

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise UserError(f"reader {self.reader!r} is none of {', '.join(READERS)}")
        if self.reader == "kenlm" and self.model.endswith(".npz"):
            raise UserError(f"kenlm cannot read {self.model}; give it the ARPA file")

    def perplexity(self, text: str) -> float | None:
        """Of a text; None where it has no words. See `reader.perplexity` for the definition."""
        sentences = self.sentences.split(text)
        if not sentences:
            return None
        if self.reader == "kenlm":
            model = _load_kenlm(self.model)
            total = sum(model.score(" ".join(sentence), bos=True, eos=True) for sentence in sentences)
        else:
            total = float(reader.load(self.model).token_scores(sentences).sum())
        return reader.perplexity(total, sentences)


def _load_kenlm(path: str) -> Any:
    with _LOCK:
        if path not in _KENLM:
            try:
                import kenlm
            except ImportError as error:
                raise UserError("reader='kenlm' needs the kenlm package (pip install kenlm, with CMake)") from error
            try:
                _KENLM[path] = kenlm.Model(path)
            except (OSError, RuntimeError) as error:
                raise UserError(f"kenlm cannot read {path!r} ({error})") from error
        return _KENLM[path]


def check_keep(keep: Sequence[str], parameter: str) -> tuple[str, ...]:
    """The buckets to keep as a tuple; UserError where there is none or one that is unknown."""
    kept = (keep,) if isinstance(keep, str) else tuple(keep)
    if not kept or any(bucket not in BUCKETS for bucket in kept):
        raise UserError(f"{parameter} {list(kept)}: one or more of {', '.join(BUCKETS)}")
    return kept
