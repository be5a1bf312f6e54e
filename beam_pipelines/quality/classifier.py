"""A fastText classifier of two kinds of text (Joulin et al. 2016, https://arxiv.org/abs/1607.01759): training, scoring.

LLaMA trains one on pages that Wikipedia cites against random pages, DCLM on instruction-like text against its crawl.
"""

from __future__ import annotations

import heapq
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from beam_pipelines.quality.metrics import area_under_curve, at_thresholds, calibration
from beam_pipelines.quality.texts import Text
from t5x_style.errors import UserError
from tasks.splits import stable_hash

POSITIVE, NEGATIVE = "__label__hq", "__label__cc"  # DCLM's names
# LLaMA's .25 and DCLM's .018112 among them; the latter kept the best tenth of DCLM's crawl by DCLM's own model.
THRESHOLDS = (0.018112, 0.1, 0.25, 0.5, 0.75, 0.9)
SPLIT_PARTS = 10_000
# With N threads fastText 0.9.2 sets the first N tenths of the vectors at random and leaves the rest as the memory was:
# on some runs NaN, on every run another model. Beyond 32 MiB glibc takes memory fresh from the system, all zeros, and
# zeros are a good start (the random tenth moves the output weights, these move the rest). A process that has freed as
# much gets that back instead, so training has one of its own (fit_fasttext.py).
LEAST_VECTOR_BYTES = 33 * 2**20
_LOCK = threading.Lock()
_MODELS: dict[tuple[str, str], Any] = {}  # (path, label) -> fastText model, one per process; they do not pickle


@dataclass(frozen=True)
class Training:
    """Parameters of fastText; all but `word_ngrams` and `threads` are its own defaults.

    The model takes 4 * dimensions * (words + buckets) bytes, 800 MB with the defaults; quantising makes it small. Fewer
    buckets than fill 33 MiB are raised to that.

    Attributes:
      dimensions: of the word vectors.
      epochs, learning_rate: passes over the text; falls linearly to 0.
      word_ngrams: longest word n-gram that is a feature; DCLM's 2.
      min_count: rarer words are no features.
      buckets: n-grams are hashed into so many vectors.
      threads: with more than one, training is faster and its result is never twice the same.
      seed: of fastText's random numbers and of the sample.
      quantize: product quantisation of the vectors (.ftz), without retraining.
    """

    dimensions: int = 100
    epochs: int = 5
    learning_rate: float = 0.1
    word_ngrams: int = 2
    min_count: int = 1
    buckets: int = 2_000_000
    threads: int = 1
    seed: int = 0
    quantize: bool = False

    def __post_init__(self) -> None:
        for field in ("dimensions", "epochs", "word_ngrams", "min_count", "threads", "learning_rate"):
            if getattr(self, field) <= 0:
                raise UserError(f"--{field} {getattr(self, field)} must be above 0")
        least = -(-LEAST_VECTOR_BYTES // (4 * self.dimensions))
        object.__setattr__(self, "buckets", max(self.buckets, least))


@dataclass(frozen=True)
class Examples:
    """Normalised lines of both classes, equally many, ordered by hash; and what was left out on the way."""

    positive: list[str]
    negative: list[str]
    seen: dict[str, int]


def sample_examples(
    positive: Iterable[Text], negative: Iterable[Text], form: Callable[[str], str], most: int, seed: int
) -> Examples:
    """Equally many of both classes: those with the smallest hashes of their normalised text.

    The sample depends on the texts and the seed only. Equal texts count once; texts in both classes are left out.

    Args:
      form: text -> normalised line, '' for texts without words.
      most: of each class; memory grows with it.
    """
    counts: dict[str, int] = {}
    sides = []
    for name, texts in (("positive", positive), ("negative", negative)):
        chosen: dict[int, str] = {}
        largest: list[int] = []
        seen = empty = 0
        for text in texts:
            seen += 1
            line = form(text.text)
            if not line:
                empty += 1
                continue
            key = stable_hash(f"quality/{seed}/{line}")
            if key in chosen or (len(chosen) == most and key > -largest[0]):
                continue
            chosen[key] = line
            heapq.heappush(largest, -key)
            if len(chosen) > most:
                del chosen[-heapq.heappop(largest)]
        counts |= {f"{name}_seen": seen, f"{name}_empty": empty}
        sides.append(chosen)
    both = sides[0].keys() & sides[1].keys()
    kept = [[side[key] for key in sorted(side.keys() - both)] for side in sides]
    size = min(map(len, kept))
    return Examples(kept[0][:size], kept[1][:size], {**counts, "in_both": len(both)})


def is_held_out(line: str, share: float) -> bool:
    """Whether a line is for measuring: by the hash of its text, so that equal texts never are on both sides."""
    return stable_hash(f"quality/held_out/{line}") % SPLIT_PARTS < round(share * SPLIT_PARTS)


def train(examples: Examples, held_out: float, training: Training) -> tuple[Any, dict[str, Any]]:
    """A fastText model and what its card holds about it.

    Args:
      examples: of both classes.
      held_out: share of the examples that are only measured on.

    Returns:
      The model; {"train", "held_out": examples of each class by split, "metrics"}.

    Raises:
      UserError: too few examples: none of a class left on one side.
    """
    sides: list[dict[str, list[str]]] = [
        {label: [line for line in lines if is_held_out(line, held_out) == measured] for label, lines in pairs}
        for pairs in [((POSITIVE, examples.positive), (NEGATIVE, examples.negative))]
        for measured in (False, True)
    ]
    for side, name in zip(sides, ("training", "measuring"), strict=True):
        for label, lines in side.items():
            if not lines:
                raise UserError(
                    f"{len(examples.positive)} documents a class leave none of {label} for {name}; give more, or "
                    "another --held_out"
                )
    lines = sorted((f"{label} {line}" for label in sides[0] for line in sides[0][label]), key=stable_hash)
    model = _fit(lines, training)
    scores = np.array([score(model, line) for label in sides[1] for line in sides[1][label]])
    positive = np.repeat([True, False], [len(sides[1][POSITIVE]), len(sides[1][NEGATIVE])])
    facts: dict[str, Any] = {
        name: {label: len(lines) for label, lines in side.items()}
        for name, side in zip(("train", "held_out"), sides, strict=True)
    }
    facts["metrics"] = {
        "area_under_curve": round(area_under_curve(scores, positive), 6),
        "thresholds": at_thresholds(scores, positive, THRESHOLDS),
        "calibration": calibration(scores, positive),
    }
    return model, facts


def _fit(lines: Sequence[str], training: Training) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path, output = os.path.join(folder, "train.txt"), os.path.join(folder, "model.bin")
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        settings = {
            "input": path,
            "output": output,
            "quantize": training.quantize,
            "dim": training.dimensions,
            "epoch": training.epochs,
            "lr": training.learning_rate,
            "wordNgrams": training.word_ngrams,
            "minCount": training.min_count,
            "bucket": training.buckets,
            "thread": training.threads,
            "seed": training.seed,
        }
        script = Path(__file__).with_name("fit_fasttext.py")
        done = subprocess.run(
            [sys.executable, str(script)], input=json.dumps(settings), capture_output=True, text=True, check=False
        )
        if done.returncode == 3:
            raise UserError(
                f"fastText stopped ({done.stderr.strip()}) at --learning_rate {training.learning_rate}; try a lower one"
            )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise UserError(f"fastText failed ({last})")
        return _open(output, POSITIVE)


def score(model: Any, line: str, label: str = POSITIVE) -> float:
    """Probability of `label` for a normalised line; 0 for a line without words."""
    if not line:
        return 0.0
    labels, scores = model.predict(line, k=-1)
    # fastText's softmax goes a little beyond 1.
    return min(1.0, float(dict(zip(labels, scores, strict=True)).get(label, 0.0)))


def load(path: str, label: str = POSITIVE) -> Any:
    """The fastText model of a file, read once per process.

    Raises:
      UserError: no fastText model, or one that does not know `label`.
    """
    with _LOCK:
        if (path, label) not in _MODELS:
            _MODELS[path, label] = _open(path, label)
        return _MODELS[path, label]


def _open(path: str, label: str) -> Any:
    from fasttext.FastText import _FastText  # load_model() is the same and writes a warning to stderr

    try:
        model = _FastText(model_path=path)
    except ValueError as error:
        raise UserError(f"quality model {path!r} cannot be read ({error})") from error
    labels = model.get_labels()
    if label not in labels:
        raise UserError(f"quality model {path!r} has no label {label!r}; it has {', '.join(labels[:10])}")
    return model
