"""Sources: the cached Tasks behind a name, and random access to their examples."""

from __future__ import annotations

import collections
import dataclasses
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style import files
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import MIXTURE_FILE, Manifest, VocabularyInfo, read_manifest, read_mixture
from t5x_style.data.objectives.objective import FeatureLengths, Objective
from t5x_style.errors import UserError

# Below this many records of one source at a time, single reads beat ArrayRecordDataSource's parallel call, which
# starts threads each time (measured: 52 us a single read; 17 us a record in calls of 128).
_PARALLEL_READ = 8


@dataclasses.dataclass(frozen=True)
class Source:
    """One cached Task of a mixture. rate: as declared, in the mixture's unit."""

    name: str
    manifest: Manifest
    rate: float


@dataclasses.dataclass(frozen=True)
class SourceSet:
    """What a name stands for: its sources in order of name, the unit of their rates, their vocabulary."""

    sources: tuple[Source, ...]
    unit: str
    vocabulary: VocabularyInfo | None
    fingerprint: str | None


def resolve_sources(
    cache_dir: str,
    name: str,
    split: str,
    objective: Objective,
    rates: Mapping[str, float] | None = None,
    unit: str | None = None,
) -> SourceSet:
    """Finds the Task or Mixture `name` in `cache_dir` and checks that `objective` can read it.

    Args:
      cache_dir, name, split, rates, unit: as in DataConfig.
      objective: names the features that are read.

    Raises:
      UserError: a cache is missing, broken, empty or lacks a feature; vocabularies differ; rates do not fit;
        the shards of a remote cache are more than the local cache may hold.
    """
    mixture = read_mixture(cache_dir, name)
    where = files.join(cache_dir, name)
    declared = {name: 1.0} if mixture is None else dict(mixture.rates)
    chosen = _checked_rates(where, declared, rates)
    sources = tuple(
        Source(task, _checked(read_manifest(cache_dir, task, split), objective), rate)
        for task, rate in sorted(chosen.items())
        if rate > 0
    )
    files.check_room(cache_dir, sum(shard.bytes for source in sources for shard in source.manifest.shards))
    fingerprint, vocabulary = _common_vocabulary(sources, objective)
    unit = unit or (mixture.unit if mixture else "examples")
    return SourceSet(sources, unit, vocabulary, fingerprint)


def _checked_rates(where: str, declared: dict[str, float], rates: Mapping[str, float] | None) -> dict[str, float]:
    chosen = declared
    if rates is not None:
        chosen = {str(task): float(rate) for task, rate in rates.items()}
        unknown, missing = sorted(set(chosen) - set(declared)), sorted(set(declared) - set(chosen))
        if unknown or missing:
            problem = f"names {unknown[0]!r}, which is not in it" if unknown else f"does not name {missing[0]!r}"
            raise UserError(f"DataConfig.rates {problem} ({where}); give every source a rate, 0 leaves one out")
    place = "DataConfig.rates" if rates is not None else f"{where}/{MIXTURE_FILE}"
    for task, rate in chosen.items():
        if not (np.isfinite(rate) and rate >= 0):
            raise UserError(f"{place}: the rate of {task!r} is {rate}, must be a number >= 0")
    if not any(chosen.values()):
        raise UserError(f"{place}: no source has a rate above 0; nothing would be read")
    return chosen


def _checked(manifest: Manifest, objective: Objective) -> Manifest:
    """The manifest, once it is sure that the objective finds its features in it and at least one usable example."""
    where = f"cache of {manifest.task!r} split {manifest.split!r}"
    for feature in objective.features:
        if feature not in manifest.features:
            raise UserError(
                f"{where} has the features {', '.join(sorted(manifest.features))} but {type(objective).__name__} reads "
                f"{feature!r}; set the objective's feature names"
            )
        if manifest.features[feature].rank != 1:
            raise UserError(f"{where}: feature {feature!r} has rank {manifest.features[feature].rank}, must be 1")
    if not manifest.examples:
        raise UserError(f"{where} holds no example; leave it out of the mixture (rate 0) or correct its Task")
    for feature in objective.required:
        if not manifest.tokens.get(feature):
            raise UserError(f"{where}: every {feature!r} is empty; leave it out (rate 0) or correct its Task")
    return manifest


def _common_vocabulary(sources: Sequence[Source], objective: Objective) -> tuple[str | None, VocabularyInfo | None]:
    """The one vocabulary of all features that are read."""
    seen: dict[str | None, str] = {}
    for source in sources:
        for feature in objective.features:
            place = f"{source.name}.{feature}"
            seen.setdefault(source.manifest.features[feature].vocabulary, place)
    if len(seen) > 1:
        (first, first_place), (second, second_place) = list(seen.items())[:2]
        raise UserError(
            f"{first_place} and {second_place} have different vocabularies (fingerprints {_short(first)} and "
            f"{_short(second)}); cache them with the same tokenizer"
        )
    fingerprint = next(iter(seen))
    return fingerprint, None if fingerprint is None else sources[0].manifest.vocabularies[fingerprint]


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:12]


class Reader:
    """Random access to the examples of all sources, as the objective wants them.

    Shards open when first read; beyond half the process's limit of open files the longest unused source is closed.
    Of a remote cache they are copied when first read (files/cache.py); what is open stays in the local cache.
    """

    def __init__(self, cache_dir: str, source_set: SourceSet, objective: Objective):
        from grain.sources import ArrayRecordDataSource

        self._store_class = ArrayRecordDataSource
        self._folders = [files.join(cache_dir, s.name, s.manifest.split) for s in source_set.sources]
        self._sources = source_set.sources
        self._required = objective.required
        self._rules = [_feature_rules(source, objective) for source in source_set.sources]
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._copies: dict[int, list[Path]] = {}
        self._open_shards = 0
        self._limit = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def read(self, places: Sequence[tuple[int, int]]) -> list[dict[str, np.ndarray] | None]:
        """Reads the examples at (source, record) places, in that order.

        Returns:
          For each place feature -> int32 ids with EOS where the Task wants it; None if a required feature is empty.

        Raises:
          UserError: a record is damaged.
        """
        by_source: dict[int, list[int]] = {}
        for index, (source, _) in enumerate(places):
            by_source.setdefault(source, []).append(index)
        examples: list[dict[str, np.ndarray] | None] = [None] * len(places)
        for source, indices in by_source.items():
            records = self._records(source, [places[index][1] for index in indices])
            for index, record in zip(indices, records):
                examples[index] = self._example(source, places[index][1], record)
        return examples

    def close(self) -> None:
        """Closes all shards; they open again when read."""
        while self._open:
            self._close_one()

    def _records(self, source: int, records: list[int]) -> Sequence[bytes]:
        store = self._store(source)
        try:
            if len(records) >= _PARALLEL_READ:
                return store.__getitems__(records)
            return [store[record] for record in records]
        except (RuntimeError, ValueError, IndexError, OSError) as error:
            raise UserError(f"{self._folders[source]}: cannot read a shard ({error}); cache the Task again") from error

    def _store(self, source: int) -> Any:
        if source in self._open:
            self._open.move_to_end(source)
            return self._open[source]
        shards = [shard for shard in self._sources[source].manifest.shards if shard.examples]
        while self._open and self._open_shards + len(shards) > self._limit:
            self._close_one()
        # The counts come from the manifest: without them every shard would be opened to count its records.
        paths = files.local_copies([files.join(self._folders[source], shard.file) for shard in shards])
        self._copies[source] = paths
        self._open[source] = self._store_class([f"{path}[0:{s.examples}]" for path, s in zip(paths, shards)])
        self._open_shards += len(shards)
        return self._open[source]

    def _close_one(self) -> None:
        source, store = self._open.popitem(last=False)
        self._open_shards -= sum(1 for shard in self._sources[source].manifest.shards if shard.examples)
        store.__exit__(None, None, None)
        for path in self._copies.pop(source):
            files.release(path)

    def _example(self, source: int, record: int, serialized: bytes) -> dict[str, np.ndarray] | None:
        try:
            found = decode_example(serialized, np.int32)
        except UserError as error:
            raise UserError(f"{self._folders[source]} record {record}: {error}; cache the Task again") from error
        example = {}
        for feature, limit, eos in self._rules[source]:
            if feature not in found:
                raise UserError(f"{self._folders[source]} record {record}: no feature {feature!r}; cache it again")
            tokens = restore(feature, found[feature], self._sources[source].manifest.features[feature])
            if not len(tokens) and feature in self._required:
                return None
            if limit is not None:
                tokens = tokens[:limit]
            example[feature] = tokens if eos is None else np.append(tokens, eos)
        return example


def _feature_rules(source: Source, objective: Objective) -> list[tuple[str, int | None, np.int32 | None]]:
    """(feature, most tokens before EOS, EOS id or None) of the features that are read."""
    rules: list[tuple[str, int | None, np.int32 | None]] = []
    manifest = source.manifest
    for name in objective.features:
        limit, eos = manifest.trim.get(name), None
        if name in manifest.append_eos:
            fingerprint = manifest.features[name].vocabulary
            if fingerprint is None:
                raise UserError(
                    f"cache of {source.name!r}: {name!r} wants an EOS but has no vocabulary; cache it again"
                )
            eos_id = manifest.vocabularies[fingerprint].eos_id
            if eos_id is None:
                raise UserError(f"cache of {source.name!r}: {name!r} wants an EOS, its vocabulary has none")
            eos = np.int32(eos_id)
            limit = None if limit is None else max(0, limit - 1)
        rules.append((name, limit, eos))
    return rules


def feature_lengths(source: Source, objective: Objective) -> dict[str, FeatureLengths] | None:
    """Mean and bound of each feature's length over a source, EOS included, from its manifest; None if it is trimmed."""
    manifest = source.manifest
    lengths = {}
    for name, limit, eos in _feature_rules(source, objective):
        if limit is not None:
            return None  # the manifest knows lengths before trimming
        histogram = manifest.lengths.get(name)
        tokens = manifest.tokens.get(name, 0)
        longest = None
        added = 0
        if eos is not None:
            empty = histogram.empty if histogram is not None and name in objective.required else 0
            added = manifest.examples - empty
        if histogram is not None:
            longest = histogram.upper_bound
            longest = None if longest is None else longest + (eos is not None)
        lengths[name] = FeatureLengths((tokens + added) / manifest.examples, longest)
    return lengths
