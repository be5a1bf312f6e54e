"""Puts the manifest of one split together from the results of its shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from t5x_style.data.manifest import Feature, LengthHistogram, Manifest, Shard, VocabularyInfo
from t5x_style.data.shards import shard_name


def merge_histograms(parts: Iterable[Sequence[int]]) -> LengthHistogram:
    """Sum of histograms whose edges are 0 and the powers of two.

    >>> merge_histograms([[1, 2], [0, 1, 3]])
    LengthHistogram(edges=(0, 1, 2, 4), counts=(1, 3, 3))
    """
    parts = list(parts)
    counts = [0] * max([1, *map(len, parts)])
    for part in parts:
        for position, count in enumerate(part):
            counts[position] += count
    return LengthHistogram((0, *(2**power for power in range(len(counts)))), tuple(counts))


def build_manifest(
    task: str,
    split: str,
    code: str,
    features: Mapping[str, Feature],
    vocabularies: Mapping[str, VocabularyInfo],
    append_eos: tuple[str, ...],
    trim: Mapping[str, int | None],
    results: Sequence[Mapping[str, Any]],
) -> Manifest:
    """The manifest of a split.

    Args:
      results: of the shards in order: {"examples", "bytes", "tokens", "lengths"}.
      task, split, code, features, vocabularies, append_eos, trim: as in `Manifest`.
    """
    present = {name for result in results for name in result["tokens"]}
    # A feature that no example has (it is not required, or there are no examples) stays described.
    shards = tuple(
        Shard(shard_name(index, len(results)), result["examples"], dict(result["tokens"]), result["bytes"])
        for index, result in enumerate(results)
    )
    kept = {name: feature for name, feature in features.items() if name in present or not present}
    used = {feature.vocabulary for feature in kept.values()}
    return Manifest(
        task=task,
        split=split,
        code=code,
        features=kept,
        vocabularies={fingerprint: info for fingerprint, info in vocabularies.items() if fingerprint in used},
        append_eos=tuple(name for name in append_eos if name in kept),
        trim={name: length for name, length in trim.items() if name in kept},
        shards=shards,
        examples=sum(shard.examples for shard in shards),
        tokens={name: sum(shard.tokens.get(name, 0) for shard in shards) for name in features},
        lengths={name: merge_histograms(result["lengths"].get(name, []) for result in results) for name in features},
    )
