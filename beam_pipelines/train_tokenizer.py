"""Trains a SentencePiece tokenizer on the training split of cleaned documents.

python -m beam_pipelines.train_tokenizer --documents 'DIR/web/documents/*.parquet' --output DIR/tokenizer
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.tokenizers.sampling import find_documents, read_documents, sample_documents
from beam_pipelines.tokenizers.sentencepiece_bpe import (
    SPECIAL_IDS,
    characters_per_token,
    train_bpe,
    vocabulary_lines,
)
from t5x_style import command_line
from t5x_style.errors import UserError, run_main
from t5x_style.files import (
    atomic_write_bytes,
    atomic_write_json,
    atomic_write_text,
    file_sha256,
    fingerprint,
    read_json,
    require_writable,
)

MODEL, VOCABULARY, REPORT = "sentencepiece.model", "sentencepiece.vocab", "tokenizer.json"
HELD_OUT_CHARACTERS = 500_000
# 4 special pieces, 256 bytes, 94 characters of ASCII, and something to merge.
SMALLEST_VOCABULARY = 400


def train(
    documents: str, output: str, vocab_size: int, seed: int = 0, max_characters: int = 12_000_000
) -> dict[str, Any]:
    """Trains and writes sentencepiece.model, sentencepiece.vocab and, last, tokenizer.json.

    Args:
      documents: glob of Parquet files.
      output: folder.
      vocab_size: pieces in all.
      seed: of the sample.
      max_characters: of training text; more documents than that are sampled by their ids.

    Returns:
      tokenizer.json: config, input, fingerprint of the model, characters per token on held-out documents.

    Raises:
      UserError: no documents, an unsuitable size, or a folder that holds another tokenizer.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UserError(f"--vocab_size {vocab_size}: at least {SMALLEST_VOCABULARY} (256 are bytes, 94 ASCII)")
    if max_characters < 1:
        raise UserError(f"--max_characters {max_characters} must be above 0")
    paths = find_documents(documents)
    folder = require_writable(output, "--output")
    config = {
        "model_type": "bpe",
        "vocab_size": vocab_size,
        "seed": seed,
        "max_characters": max_characters,
        "special_ids": SPECIAL_IDS,
        "input": fingerprint([[posixpath.basename(path), storage.size(path)] for path in paths]),
    }
    if (folder / REPORT).exists():
        return _finished(folder, config)
    started = time.monotonic()
    sample = sample_documents(read_documents(paths), max_characters, HELD_OUT_CHARACTERS, seed)
    if not sample.train:
        raise UserError(f"{documents}: no document of the training split among {sample.documents}; give more input")
    characters = sum(map(len, sample.train))
    logging.info(
        "tokenizer: %d of %d training documents, %d characters", len(sample.train), sample.train_documents, characters
    )
    model = train_bpe(sample.train, vocab_size)
    atomic_write_bytes(folder / MODEL, model)
    atomic_write_text(folder / VOCABULARY, vocabulary_lines(model))
    report = {
        "format": 1,
        "config": config,
        "fingerprint": file_sha256(folder / MODEL),
        "documents": sample.documents,
        "train_documents": len(sample.train),
        "train_characters": characters,
        "held_out_documents": len(sample.held_out),
        "held_out_characters_per_token": characters_per_token(model, sample.held_out),
    }
    atomic_write_json(folder / REPORT, report)
    logging.info(
        "tokenizer: %d pieces, %s characters a token on %d held-out documents, %.1f s",
        vocab_size,
        report["held_out_characters_per_token"],
        len(sample.held_out),
        time.monotonic() - started,
    )
    return report


def _finished(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    report = read_json(folder / REPORT)
    recorded = report.get("config", {})
    if recorded != config:
        different = sorted(key for key in config if recorded.get(key) != config[key])
        raise UserError(
            f"{folder} holds a tokenizer with another {', '.join(different)}; delete it or pass another --output"
        )
    if not (folder / MODEL).exists() or file_sha256(folder / MODEL) != report["fingerprint"]:
        raise UserError(f"{folder / MODEL} is missing or was changed; delete {folder} and run the same command again")
    logging.info("%s is complete, nothing to do", folder / REPORT)
    return report


def run(argv: Sequence[str]) -> None:
    """Parses the command line and trains."""
    parser = command_line.parser("beam_pipelines.train_tokenizer", __doc__)
    parser.add_argument("--documents", required=True, help="glob of the cleaned documents' Parquet files")
    parser.add_argument("--output", required=True, help="folder of the tokenizer")
    parser.add_argument("--vocab_size", type=int, default=4096, help="pieces in all (default 4096)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of documents")
    parser.add_argument("--max_characters", type=int, default=12_000_000, help="training text (default 12,000,000)")
    arguments = parser.parse_args(argv)
    train(**vars(arguments))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_main(run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
