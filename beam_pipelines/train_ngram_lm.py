"""Trains an n-gram language model with modified Kneser-Ney smoothing, for perplexity filtering.

python -m beam_pipelines.train_ngram_lm --input 'wikipedia/*.parquet' --output DIR
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.quality import arpa, reader
from beam_pipelines.quality.card import finished
from beam_pipelines.quality.counting import count_ngrams
from beam_pipelines.quality.kneser_ney import Level, estimate, pruning_thresholds
from beam_pipelines.quality.text_form import LM_FORMS, Sentences
from beam_pipelines.quality.texts import find_files, input_names, read_texts
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import atomic_write_bytes, atomic_write_json, file_sha256, fingerprint, require_writable
from t5x_style.progress import track

ARPA, TABLES, PIECES, CARD = "lm.arpa", "lm.npz", "sentencepiece.model", "lm.json"
BLOCKS = ".blocks"
LONGEST = 12


def train(
    inputs: Sequence[str],
    output: str,
    order: int = 5,
    prune: Sequence[int] = (),
    normalisation: str = "words",
    sentencepiece: str = "",
    field: str = "text",
    block_tokens: int = 4_000_000,
) -> dict[str, Any]:
    """Trains and writes lm.arpa, lm.npz (the same model, fast to read) and, last, the card lm.json.

    Args:
      inputs: globs of Parquet, JSON lines or text files; every line of a text is a sentence.
      output: folder.
      order: words of the longest n-grams; CCNet's 5.
      prune: n-grams that occur at most so many times are left out, by order; see `kneser_ney.pruning_thresholds`.
      normalisation, sentencepiece: see `text_form.Sentences`; CCNet uses `ccnet` and a SentencePiece model.
      field: column or JSON field that holds the text.
      block_tokens: counted in memory at a time.

    Returns:
      The card.

    Raises:
      UserError: bad arguments, unreadable input or none, or a folder that holds another model.
    """
    if not 1 <= order <= LONGEST or block_tokens < 1:
        raise UserError(f"--order {order} must be 1 to {LONGEST}, --block_tokens {block_tokens} above 0")
    thresholds = pruning_thresholds(prune, order)
    sentences = Sentences(normalisation, sentencepiece)
    if sentencepiece and not os.path.isfile(sentencepiece):
        raise UserError(f"--sentencepiece {sentencepiece!r} is no file")
    paths = find_files(inputs, "--input")
    folder = require_writable(output, "--output")
    config = {
        "order": order,
        "prune": thresholds,
        "normalisation": normalisation,
        "sentencepiece": file_sha256(sentencepiece) if sentencepiece else "",
        "field": field,
        "input": fingerprint(input_names(paths)),
    }
    card = finished(folder / CARD, config, {"fingerprint": ARPA, "tables": TABLES})
    if card is not None:
        return card
    started = time.monotonic()
    levels, words, counts = _estimate(_sentences(paths, field, sentences), order, thresholds, folder, block_tokens)
    arpa.write(str(folder / ARPA), levels, words)
    reader.save(reader.read(str(folder / ARPA)), str(folder / TABLES))
    if sentencepiece:
        atomic_write_bytes(folder / PIECES, Path(sentencepiece).read_bytes())
    card = _card(folder, config, levels, counts)
    atomic_write_json(folder / CARD, card)
    logging.info(
        "%s: %d words, %d sentences, n-grams by order %s, %.1f s",
        folder / ARPA,
        counts["tokens"],
        counts["sentences"],
        [len(level.rows) for level in levels],
        time.monotonic() - started,
    )
    return card


def _card(folder: Path, config: dict[str, Any], levels: Sequence[Level], counts: dict[str, int]) -> dict[str, Any]:
    return {
        "format": 1,
        "kind": "ngram_lm",
        "config": config,
        "normalisation": config["normalisation"],
        "sentencepiece": PIECES if config["sentencepiece"] else "",
        **counts,
        "orders": [
            {
                "ngrams": len(level.rows),
                "pruned": level.pruned,
                "discounts": list(level.discounts),
                "discount_fallback": level.fell_back,
            }
            for level in levels
        ],
        "fingerprint": file_sha256(folder / ARPA),
        "tables": file_sha256(folder / TABLES),
    }


def _sentences(paths: Sequence[str], field: str, sentences: Sentences) -> Iterator[list[str]]:
    for text in track(read_texts(paths, field), "counting", unit="documents"):
        yield from sentences.split(text.text)


def _estimate(
    sentences: Iterator[list[str]], order: int, thresholds: Sequence[int], folder: Path, block_tokens: int
) -> tuple[list[Level], list[str], dict[str, int]]:
    blocks = folder / BLOCKS
    shutil.rmtree(blocks, ignore_errors=True)  # of a run that was killed
    blocks.mkdir()
    try:
        counts = count_ngrams(sentences, order, str(blocks), block_tokens)
        levels = estimate(counts, thresholds)
    finally:
        shutil.rmtree(blocks)
    for number, level in enumerate(levels, 1):
        if level.fell_back:
            logging.warning(
                "order %d: too few different counts for its own discounts, took %s (small, or much repeated text?)",
                number,
                level.discounts,
            )
    return levels, counts.words, {"sentences": counts.sentences, "tokens": counts.tokens}


def run(argv: Sequence[str]) -> None:
    """Parses the command line and trains."""
    parser = command_line.parser("beam_pipelines.train_ngram_lm", __doc__, allow_abbrev=False)
    parser.add_argument("--input", dest="inputs", nargs="+", required=True, metavar="GLOB", help="documents")
    parser.add_argument("--output", required=True, metavar="DIR", help="lm.arpa, lm.npz, lm.json")
    parser.add_argument("--order", type=int, default=5, help="words of the longest n-grams (default 5)")
    parser.add_argument(
        "--prune", type=int, nargs="*", default=[], metavar="N", help="leave out n-grams this rare, by order: 0 0 1"
    )
    parser.add_argument("--normalisation", choices=LM_FORMS, default="words", help="of each line (default words)")
    parser.add_argument("--sentencepiece", default="", metavar="FILE", help="its pieces are the tokens, not words")
    parser.add_argument("--field", default="text", help="column or JSON field of the text (default text)")
    parser.add_argument("--block_tokens", type=int, default=4_000_000, help="counted in memory at a time")
    train(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
