"""Perplexity by token, word and byte on a token cache, chunked as in training (no TensorFlow here).

Documents become segments as CausalLM makes them: one longer than a row continues in a new segment that
starts afresh. Every token is predicted exactly once, EOS included. Words and bytes are counted in the documents'
text, decoded from the cache, so perplexity by byte and bits per byte do not depend on the tokenizer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from t5x_style import files
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import Manifest, read_manifest
from t5x_style.errors import UserError

FEATURE = "targets"
Score = Callable[[Sequence[Sequence[int]], Sequence[Sequence[int]]], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Counts:
    """Sums over documents: nll in nats; tokens predicted (EOS included); words; UTF-8 bytes; documents; segments."""

    nll: float
    tokens: int
    words: int
    bytes: int
    documents: int = 0
    segments: int = 0


def summarise(counts: Counts) -> dict[str, float]:
    """Loss and perplexities of summed counts.

    Returns:
      {"loss": nats per token, "perplexity": exp of it, "word_perplexity", "byte_perplexity", "bits_per_byte"} and the
      counts.

    Raises:
      UserError: there was no text.

    Example:
      summarise(Counts(nll=4 * math.log(2), tokens=4, words=2, bytes=8)) has loss log(2), perplexity 2,
      word_perplexity 4, byte_perplexity sqrt(2), bits_per_byte 0.5.
    """
    if not (counts.tokens and counts.words and counts.bytes):
        raise UserError("there is no text to measure the perplexity of; choose another cache or split")
    return {
        "loss": counts.nll / counts.tokens,
        "perplexity": math.exp(counts.nll / counts.tokens),
        "word_perplexity": math.exp(min(counts.nll / counts.words, 700.0)),  # a float holds up to exp(709)
        "byte_perplexity": math.exp(counts.nll / counts.bytes),
        "bits_per_byte": counts.nll / counts.bytes / math.log(2),
        **{name: value for name, value in dataclasses.asdict(counts).items() if name != "nll"},
    }


def measure(
    documents: Sequence[np.ndarray], length: int, score: Score, decode: Callable[[list[int]], str], eos_id: int | None
) -> Counts:
    """Sums over documents.

    Args:
      documents: token ids of each, without EOS. length: tokens of a row.
      score: (inputs, targets) -> summed log-probability of each row's targets; the inputs given are empty.
      decode: ids -> text. eos_id: appended to every document; None appends nothing.
    """
    segments: list[list[int]] = []
    words = size = 0
    for tokens in documents:
        text = decode(tokens.tolist())
        words += len(text.split())
        size += len(text.encode("utf-8"))
        ended = tokens if eos_id is None else np.append(tokens, eos_id)
        segments += [ended[start : start + length].tolist() for start in range(0, len(ended), length)]
    log_probs = score([[]] * len(segments), segments)
    return Counts(
        nll=-math.fsum(log_probs),
        tokens=sum(map(len, segments)),
        words=words,
        bytes=size,
        documents=len(documents),
        segments=len(segments),
    )


def read_documents(
    cache_dir: str | Path, name: str, split: str, limit: int | None
) -> tuple[Manifest, list[np.ndarray]]:
    """A token cache's documents, at most `limit`, every k-th of them in order.

    Raises:
      UserError: no such cache, or it has no feature `targets`.
    """
    from array_record.python import array_record_module

    manifest = read_manifest(cache_dir, name, split)
    if FEATURE not in manifest.features:
        raise UserError(f"cache {name!r} has no feature {FEATURE!r} but {', '.join(manifest.features)}")
    stride = 1 if limit is None else max(1, manifest.examples // limit)
    wanted = range(0, manifest.examples, stride)[:limit]
    documents, first = [], 0
    for shard in manifest.shards:
        inside = [index - first for index in wanted if first <= index < first + shard.examples]
        first += shard.examples
        if inside:
            path = files.local_copy(files.join(cache_dir, name, split, shard.file))
            reader = array_record_module.ArrayRecordReader(str(path))
            found = [decode_example(record, np.int32)[FEATURE] for record in reader.read(inside)]
            documents += [restore(FEATURE, value, manifest.features[FEATURE]) for value in found]
            reader.close()
            files.release(path)
    return manifest, documents
