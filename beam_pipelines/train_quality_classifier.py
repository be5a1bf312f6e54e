"""Trains a fastText classifier that tells wanted from ordinary documents, and measures it on held-out ones.

python -m beam_pipelines.train_quality_classifier --positive 'cited/*.parquet' --negative 'random/*.parquet' \\
    --output DIR
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.quality import classifier
from beam_pipelines.quality.card import finished
from beam_pipelines.quality.text_form import CLASSIFIER_FORMS
from beam_pipelines.quality.texts import find_files, input_names, read_texts
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import atomic_write_json, file_sha256, fingerprint, require_writable
from t5x_style.progress import track

CARD = "quality.json"
FASTTEXT = classifier.Training()


def train(
    positive: Sequence[str],
    negative: Sequence[str],
    output: str,
    field: str = "text",
    max_documents: int = 300_000,
    held_out: float = 0.1,
    normalisation: str = "fasttext",
    training: classifier.Training = FASTTEXT,
) -> dict[str, Any]:
    """Trains and writes quality.bin (or quality.ftz) and, last, the card quality.json.

    Args:
      positive, negative: globs of Parquet, JSON lines or text files.
      output: folder.
      field: column or JSON field that holds the text.
      max_documents: of each class; LLaMA's 300,000 by default. Both classes are cut to the smaller one's size.
      held_out: share of documents that are only measured on.
      normalisation: `fasttext` (lower case, punctuation apart) or `spaces`.
      training: parameters of fastText.

    Returns:
      The card.

    Raises:
      UserError: bad arguments, unreadable or too few documents, or a folder that holds another model.
    """
    if max_documents < 1 or not 0 < held_out < 1:
        raise UserError(f"--max_documents {max_documents} must be above 0, --held_out {held_out} between 0 and 1")
    paths = [find_files(positive, "--positive"), find_files(negative, "--negative")]
    folder = require_writable(output, "--output")
    model_name = "quality.ftz" if training.quantize else "quality.bin"
    config = {
        **dataclasses.asdict(training),
        "field": field,
        "max_documents": max_documents,
        "held_out": held_out,
        "normalisation": normalisation,
        "positive": fingerprint(input_names(paths[0])),
        "negative": fingerprint(input_names(paths[1])),
    }
    card = finished(folder / CARD, config, {"fingerprint": model_name})
    if card is not None:
        return card
    started = time.monotonic()
    texts = [track(read_texts(side, field), name) for side, name in zip(paths, ("positive", "negative"), strict=True)]
    form = CLASSIFIER_FORMS[normalisation]
    examples = classifier.sample_examples(texts[0], texts[1], form, max_documents, training.seed)
    logging.info("%d documents a class (%s); training", len(examples.positive), examples.seen)
    model, facts = classifier.train(examples, held_out, training)
    _save(model, folder / model_name)
    card = {
        "format": 1,
        "kind": "fasttext",
        "label": classifier.POSITIVE,
        "normalisation": normalisation,
        "config": config,
        "documents": examples.seen,
        **facts,
        "fingerprint": file_sha256(folder / model_name),
        "bytes": (folder / model_name).stat().st_size,
        "fasttext": importlib.metadata.version("fasttext-numpy2-wheel"),
    }
    atomic_write_json(folder / CARD, card)
    _report(card, folder / model_name, time.monotonic() - started)
    return card


def _save(model: Any, path: Path) -> None:
    unfinished = path.with_name(f".unfinished{path.suffix}")  # fastText wants its suffix; the next run overwrites it
    model.save_model(str(unfinished))
    os.replace(unfinished, path)


def _report(card: dict[str, Any], path: Path, seconds: float) -> None:
    metrics = card["metrics"]
    logging.info(
        "%s: area under the curve %.4f, calibration error %.4f, %.1f s",
        path,
        metrics["area_under_curve"],
        metrics["calibration"]["expected_error"],
        seconds,
    )
    for row in metrics["thresholds"]:
        logging.info(
            "  keep >= %-9s precision %s  recall %s  negatives kept %s",
            row["threshold"],
            row["precision"],
            row["recall"],
            row["negatives_kept"],
        )


def run(argv: Sequence[str]) -> None:
    """Parses the command line and trains."""
    parser = command_line.parser("beam_pipelines.train_quality_classifier", __doc__, allow_abbrev=False)
    parser.add_argument("--positive", nargs="+", required=True, metavar="GLOB", help="documents of the wanted kind")
    parser.add_argument("--negative", nargs="+", required=True, metavar="GLOB", help="ordinary documents")
    parser.add_argument("--output", required=True, metavar="DIR", help="quality.bin or .ftz, quality.json")
    parser.add_argument("--field", default="text", help="column or JSON field of the text (default text)")
    parser.add_argument("--max_documents", type=int, default=300_000, help="of each class (default 300000)")
    parser.add_argument("--held_out", type=float, default=0.1, help="share that is measured on (default 0.1)")
    parser.add_argument("--normalisation", choices=CLASSIFIER_FORMS, default="fasttext", help="(default fasttext)")
    for item in dataclasses.fields(classifier.Training):
        default = getattr(FASTTEXT, item.name)
        if isinstance(default, bool):
            parser.add_argument(f"--{item.name}", action="store_true", help="small model (.ftz)")
        else:
            parser.add_argument(f"--{item.name}", type=type(default), default=default, help=f"(default {default})")
    arguments = vars(parser.parse_args(argv))
    names = [item.name for item in dataclasses.fields(classifier.Training)]
    training = classifier.Training(**{name: arguments.pop(name) for name in names})
    train(**arguments, training=training)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
