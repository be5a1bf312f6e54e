"""Counts n-grams of word numbers in sorted blocks; memory is bounded by a block and by the distinct n-grams.

Every word of a sentence but <s> ends exactly one n-gram of the highest order, the start filled up with <s>:

    "a b" with order 3 -> <s> <s> a, <s> a b, a b </s>

Everything about lower orders follows from these. Rows are in suffix order: by the last word, then the one before, ...;
all n-grams with the same last k words stand together, for every k.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

UNKNOWN, START, END = 0, 1, 2
SYMBOLS = ("<unk>", "<s>", "</s>")
_WORD_BITS = np.uint64(32)


@dataclass(frozen=True)
class Counts:
    """Distinct n-grams of one order in suffix order.

    Attributes:
      words: the vocabulary; numbers 0, 1, 2 are <unk>, <s>, </s>, then words in order of appearance.
      rows: uint32 [n-grams, order], word numbers.
      counts: int64 [n-grams].
      sentences, tokens: of the text; tokens without <s> and </s>.
    """

    words: list[str]
    rows: np.ndarray
    counts: np.ndarray
    sentences: int
    tokens: int


def count_ngrams(sentences: Iterable[Sequence[str]], order: int, folder: str, block_tokens: int = 4_000_000) -> Counts:
    """Counts the n-grams of `sentences`.

    Args:
      sentences: of at least one token each.
      order: 1 or more.
      folder: exists; takes the sorted blocks (`block-*.npy`) where there is more than one. The caller deletes it.
      block_tokens: counted in memory at a time, about 100 bytes each.
    """
    ids = {word: number for number, word in enumerate(SYMBOLS)}
    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    files: list[tuple[str, str]] = []
    totals = [0, 0]

    def spill() -> None:
        index = len(files)
        names = (os.path.join(folder, f"block-{index}-rows.npy"), os.path.join(folder, f"block-{index}-counts.npy"))
        for name, array in zip(names, blocks.pop(), strict=True):
            np.save(name, array)
        files.append(names)

    for stream in _streams(sentences, ids, order, block_tokens, totals):
        if blocks:
            spill()
        blocks.append(unique_rows(_windows(stream, order)))
    if not files:
        rows, counts = blocks[0] if blocks else unique_rows(np.zeros((0, order), np.uint32))
    else:
        spill()
        rows, counts = _merge(files, len(ids), block_tokens)
    return Counts(list(ids), rows, counts, *totals)


def _streams(
    sentences: Iterable[Sequence[str]], ids: dict[str, int], order: int, block_tokens: int, totals: list[int]
) -> Iterator[np.ndarray]:
    """Word numbers of whole sentences, each behind max(order - 1, 1) times <s> and before </s>."""
    head = [START] * max(order - 1, 1)
    stream: list[int] = []
    for sentence in sentences:
        stream += head
        stream += [ids.setdefault(word, len(ids)) for word in sentence]
        stream.append(END)
        totals[0] += 1
        totals[1] += len(sentence)
        if len(stream) >= block_tokens:
            yield np.array(stream, np.uint32)
            stream = []
    if stream:
        yield np.array(stream, np.uint32)


def _windows(stream: np.ndarray, order: int) -> np.ndarray:
    """uint32 [words that are not <s>, order]: the n-grams that end there."""
    ends = np.flatnonzero(stream != START)
    return np.stack([stream[ends - back] for back in range(order - 1, -1, -1)], axis=1)


def unique_rows(rows: np.ndarray, counts: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows in suffix order and how often each occurs (`counts`: how often each given row counts).

    Exact: each step numbers the distinct (suffix, word before) pairs, two 32-bit numbers in one 64-bit key.

    Example: [[1, 5], [4, 3], [1, 5]] -> [[4, 3], [1, 5]], [1, 2].
    """
    order = rows.shape[1]
    levels = []
    suffix: np.ndarray = np.zeros(len(rows), np.uint64)
    for column in range(order - 1, -1, -1):
        keys, suffix = np.unique((suffix << _WORD_BITS) | rows[:, column], return_inverse=True)
        suffix = suffix.astype(np.uint64)
        levels.append(keys)
    distinct = np.empty((len(levels[-1]), order), np.uint32)
    index = np.arange(len(levels[-1]))
    for column, keys in enumerate(reversed(levels)):
        distinct[:, column] = keys[index] & np.uint64(0xFFFFFFFF)
        index = (keys[index] >> _WORD_BITS).astype(np.int64)
    totals = np.bincount(suffix.astype(np.int64), counts, len(distinct))  # float64 holds counts exactly up to 2^53
    return distinct, totals.astype(np.int64)


def _merge(files: Sequence[tuple[str, str]], words: int, block_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Merges sorted blocks part by part; a part is a range of last words."""
    rows = [np.load(name, mmap_mode="r") for name, _ in files]
    counts = [np.load(name, mmap_mode="r") for _, name in files]
    per_word = sum(np.bincount(block[:, -1], minlength=words) for block in rows)
    cuts = np.searchsorted(np.cumsum(per_word), np.arange(block_tokens, np.sum(per_word), block_tokens)) + 1
    merged = []
    for low, high in zip([0, *cuts], [*cuts, words], strict=True):
        if low < high:
            spans = [slice(*np.searchsorted(block[:, -1], [low, high])) for block in rows]
            part = np.concatenate([block[span] for block, span in zip(rows, spans, strict=True)])
            weights = np.concatenate([block[span] for block, span in zip(counts, spans, strict=True)])
            merged.append(unique_rows(part, weights))
    return np.concatenate([part for part, _ in merged]), np.concatenate([part for _, part in merged])
