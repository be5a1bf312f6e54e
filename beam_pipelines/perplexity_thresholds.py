"""Percentiles of perplexity over reference documents: the thresholds between head, middle and tail.

python -m beam_pipelines.perplexity_thresholds --model DIR/lm.npz --documents 'web/documents/*.parquet' \\
    --output DIR/thresholds.json
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from beam_pipelines.quality.buckets import PERCENTILES, READERS, Scorer, resolve_sentences
from beam_pipelines.quality.card import finished, read_card, require_model
from beam_pipelines.quality.text_form import LM_FORMS
from beam_pipelines.quality.texts import find_files, input_names, read_texts
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import atomic_write_json, fingerprint, require_writable
from t5x_style.progress import track

SHOWN = (5, 25, 50, 75, 95)


def compute(
    model: str,
    documents: Sequence[str],
    output: str,
    percentiles: Sequence[float] = PERCENTILES,
    field: str = "text",
    normalisation: str = "",
    sentencepiece: str = "",
    reader: str = "own",
) -> dict[str, Any]:
    """Scores the documents and writes the thresholds file.

    Args:
      model: path of an n-gram model.
      documents: globs of Parquet, JSON lines or text files.
      output: path of the JSON file.
      percentiles: of documents up to the end of head and of middle; CCNet's 30 and 60.
      field: column or JSON field that holds the text.
      normalisation, sentencepiece, reader: as for `perplexity.PerplexityBuckets`.

    Returns:
      What the file holds: head, tail, how many documents, more percentiles, the configuration.

    Raises:
      UserError: bad arguments, no document with words, or a file that holds other thresholds.
    """
    low, high = percentiles
    if not 0 <= low <= high <= 100:
        raise UserError(f"--percentiles {low} {high}: two rising numbers from 0 to 100")
    require_model(model, "--model")
    scorer = Scorer(model, resolve_sentences(model, normalisation, sentencepiece), reader)
    paths = find_files(documents, "--documents")
    path = Path(output)
    require_writable(path.parent, "--output")
    config = {
        "model": read_card(model, "ngram_lm").get("fingerprint", ""),
        "percentiles": [low, high],
        "field": field,
        "normalisation": scorer.sentences.normalisation,
        "reader": reader,
        "documents": fingerprint(input_names(paths)),
    }
    done = finished(path, config, {})
    if done is not None:
        return done
    texts = track(read_texts(paths, field), "perplexity", unit="documents")
    every = [scorer.perplexity(text.text) for text in texts]
    values = np.array([value for value in every if value is not None])
    if not len(values):
        raise UserError(f"--documents {' '.join(documents)}: none of {len(every)} documents has words")
    head, tail = (float(value) for value in np.percentile(values, [low, high]))
    content = {
        "format": 1,
        "kind": "perplexity_thresholds",
        "config": config,
        "head": head,
        "tail": tail,
        "documents": len(values),
        "without_words": len(every) - len(values),
        "by_percentile": {str(point): float(np.percentile(values, point)) for point in SHOWN},
    }
    atomic_write_json(path, content)
    logging.info("%s: head up to %.1f, middle up to %.1f, of %d documents", path, head, tail, len(values))
    return content


def run(argv: Sequence[str]) -> None:
    """Parses the command line and computes."""
    parser = command_line.parser("beam_pipelines.perplexity_thresholds", __doc__, allow_abbrev=False)
    parser.add_argument("--model", required=True, metavar="FILE", help="lm.npz or an ARPA file")
    parser.add_argument("--documents", nargs="+", required=True, metavar="GLOB", help="reference documents")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSON file of the thresholds")
    parser.add_argument("--percentiles", type=float, nargs=2, default=PERCENTILES, help="(default 30 60)")
    parser.add_argument("--field", default="text", help="column or JSON field of the text (default text)")
    parser.add_argument("--normalisation", choices=["", *LM_FORMS], default="", help="for a model without a card")
    parser.add_argument("--sentencepiece", default="", metavar="FILE", help="for a model without a card")
    parser.add_argument("--reader", choices=READERS, default="own", help="(default own)")
    compute(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
