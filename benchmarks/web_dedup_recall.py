"""Recall and precision of MinHash deduplication against exact Jaccard similarities, on near-duplicates of real pages.

    python -m benchmarks.web_dedup_recall --pages 'pages-*.warc.gz'

Every page's main text is changed in five ways, each at several strengths: single words exchanged, another page's lines
around it, cut at an end, paragraphs in another order, paragraphs of another page put in. The exact Jaccard similarity s
of the sets of 5-grams of words (as tuples, no hashing) is held against whether the pair shares a band.

First table: candidates for each range of s, with the mean of 1 - (1 - s^rows)^bands over its pairs and the binomial
standard error. Every pair has a seed of its own, so that pairs are independent. Second table: pairs of documents that
end in one cluster, and the share of them whose own s is above .7 and .8; chains join documents that are less alike.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

SCHEMES = ((14, 8), (450, 20))
NGRAM = 5
STRENGTHS = (0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.35)
EDGES = (0.0, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


class Bin(NamedTuple):
    """Pairs of one range of similarity.

    Attributes:
      low, high: s in [low, high), the last one to 1 inclusive.
      pairs: how many.
      found: share that became candidates.
      expected: mean of the formula over them.
      error: standard error of `found` if the formula holds: sqrt(sum of p (1 - p)) / pairs.
    """

    low: float
    high: float
    pairs: int
    found: float
    expected: float
    error: float

    @property
    def deviation(self) -> float:
        """Difference in standard errors; one pair more or less is not counted."""
        off = max(0.0, abs(self.found - self.expected) - 1 / self.pairs)
        return off / self.error if self.error else (0.0 if off == 0 else math.inf)


def variants(words: list[str], other: list[str], generator: random.Random) -> Iterator[tuple[str, list[str]]]:
    """(kind, words) of near-duplicates of `words`, with material of `other`; all kinds at all strengths."""
    for strength in STRENGTHS:
        amount = max(1, round(strength * len(words)))
        yield "words exchanged", _exchanged(words, max(1, amount // NGRAM), generator)
        head = generator.randrange(amount + 1)
        yield "other boilerplate", [*other[:head], *words, *other[len(other) - (amount - head) :]]
        yield "cut at an end", words[amount:] if generator.random() < 0.5 else words[: max(1, len(words) - amount)]
        yield "paragraphs moved", _moved(words, max(1, amount // NGRAM), generator)
        at = generator.randrange(len(words) + 1)
        yield "paragraph put in", [*words[:at], *other[:amount], *words[at:]]


def _exchanged(words: list[str], count: int, generator: random.Random) -> list[str]:
    result = list(words)
    for _ in range(count):
        result[generator.randrange(len(result))] = f"edit{generator.randrange(10**9)}"
    return result


def _moved(words: list[str], cuts: int, generator: random.Random) -> list[str]:
    places = sorted(generator.randrange(len(words) + 1) for _ in range(cuts))
    pieces = [words[a:b] for a, b in zip([0, *places], [*places, len(words)], strict=True)]
    generator.shuffle(pieces)
    return [word for piece in pieces for word in piece]


def grams(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """The set of 5-grams; a shorter text is one."""
    size = min(NGRAM, len(words))
    return frozenset(zip(*(words[start:] for start in range(size)), strict=False))


def jaccard(one: frozenset, other: frozenset) -> float:
    """Size of the intersection over size of the union."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def recall_bins(pages: Sequence[list[str]], bands: int, rows: int, seed: int = 1) -> list[Bin]:
    """Candidates among (page, variant) pairs by exact similarity, against the formula."""
    from beam_pipelines.web.dedup.minhash import MinHashDedup
    from beam_pipelines.web.dedup.shingles import shingle_set

    generator = random.Random(seed)
    similarity, met = [], []
    for index, page in enumerate(pages):
        own, shingles = grams(page), shingle_set(page, NGRAM)
        for _, variant in variants(page, pages[index - 1], generator):
            stage = MinHashDedup(bands=bands, rows=rows, ngram=NGRAM, seed=len(met) + 1)
            similarity.append(jaccard(own, grams(variant)))
            keys = stage.band_keys(shingles), stage.band_keys(shingle_set(variant, NGRAM))
            met.append(bool((keys[0] == keys[1]).any()))
    s, found = np.array(similarity), np.array(met)
    p = 1 - (1 - s**rows) ** bands
    result = []
    for low, high in pairwise(EDGES):
        inside = (s >= low) & ((s < high) | (high == 1.0))
        if count := int(inside.sum()):
            error = math.sqrt(float((p[inside] * (1 - p[inside])).sum())) / count
            result.append(Bin(low, high, count, float(found[inside].mean()), float(p[inside].mean()), error))
    return result


def clustered_similarities(pages: Sequence[list[str]], bands: int, rows: int, seed: int = 1) -> list[float]:
    """Exact similarities of all pairs of documents that end in one cluster; the corpus is pages and their variants."""
    from beam_pipelines.web.dedup.clusters import components
    from beam_pipelines.web.dedup.key_edges import equal_key_edges, sort_order
    from beam_pipelines.web.dedup.minhash import MinHashDedup
    from beam_pipelines.web.dedup.shingles import shingle_set

    generator, stage = random.Random(seed), MinHashDedup(bands=bands, rows=rows, ngram=NGRAM)
    corpus = []
    for index, page in enumerate(pages):
        corpus.append(page)
        corpus += [variant for _, variant in variants(page, pages[index - 1], generator)][:: len(STRENGTHS) // 2]
    keys = np.stack([stage.band_keys(shingle_set(words, NGRAM)) for words in corpus])  # [documents, bands]
    edges = []
    for column in keys.T[..., None]:
        order = sort_order(column)
        edges.append(equal_key_edges(column[order], order.astype(np.uint64)))
    found = components(np.concatenate(edges))
    groups: dict[int, list[int]] = {}
    for document, first in zip(found.documents.tolist(), found.firsts.tolist(), strict=True):
        groups.setdefault(first, []).append(document)
    similarities = []
    for members in groups.values():
        sets = [grams(corpus[member]) for member in members]
        similarities += [jaccard(one, other) for one, other in combinations(sets, 2)]
    return similarities


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both tables for each scheme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", nargs="+", required=True, help="globs of WARC files")
    parser.add_argument("--texts", type=int, default=600, help="at most so many pages")
    parser.add_argument("--shortest", type=int, default=50, help="words that a page must have")
    arguments = parser.parse_args(argv)

    from beam_pipelines.text.words import normalised_words
    from benchmarks.web_filters import read_texts

    pages = [normalised_words(text) for text in read_texts(arguments.pages, sys.maxsize)]
    pages = [page for page in pages if len(page) >= arguments.shortest][: arguments.texts]
    worst = 0.0
    for bands, rows in SCHEMES:
        print(f"\n{bands} x {rows}: pairs of a page and a near-duplicate, {len(pages)} pages")
        print(f"{'Jaccard':>12}{'pairs':>8}{'candidates':>12}{'formula':>9}{'error':>8}{'off by':>8}")
        for found in recall_bins(pages, bands, rows):
            worst = max(worst, found.deviation)
            print(
                f"{found.low:6.2f}..{found.high:.2f}{found.pairs:8}{found.found:12.4f}{found.expected:9.4f}"
                f"{found.error:8.4f}{found.deviation:8.1f}"
            )
        similarities = np.array(clustered_similarities(pages, bands, rows))
        shares = ", ".join(f"{(similarities > limit).mean():.1%} above {limit}" for limit in (0.7, 0.8))
        print(f"pairs in one cluster: {len(similarities):,}; exact Jaccard {shares}")
    print(f"\nlargest deviation: {worst:.1f} standard errors")
    return 0


if __name__ == "__main__":
    sys.exit(main())
