"""Random access to the examples of all sources."""

from __future__ import annotations

import collections
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from t5x_style import files
from t5x_style.data.examples import decode_example, restore
from t5x_style.data.manifest import Feature
from t5x_style.data.objectives.objective import Example
from t5x_style.data.sources import Cached, Use
from t5x_style.errors import UserError

# Below this many records of one source at a time, single reads beat ArrayRecordDataSource's parallel call, which
# starts threads each time (measured: 52 us a single read; 17 us a record in calls of 128).
_PARALLEL_READ = 8


class Reader:
    """Reads examples as an objective wants them: ids without EOS, trimmed as the Task says.

    Shards open when first read; beyond half the process's limit of open files the longest unused source is closed.
    Of a remote cache they are copied when first read (files/cache.py); what is open stays in the local cache.
    """

    def __init__(self, sources: Sequence[Cached]):
        from grain.sources import ArrayRecordDataSource

        self._store_class = ArrayRecordDataSource
        self._sources = list(sources)
        self._folders = [cached.folder for cached in sources]
        self._rules: dict[int, tuple[Use, list[_Rule]]] = {}  # by identity of the use, which is kept alive
        self._open: collections.OrderedDict[int, Any] = collections.OrderedDict()
        self._copies: dict[int, list[Path]] = {}
        self._open_shards = 0
        self._limit = max(8, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def read(self, places: Sequence[tuple[Use, int]]) -> list[Example | None]:
        """Reads the examples at (use, record) places, in that order; None where a required feature is empty.

        Raises:
          UserError: a record is damaged.
        """
        by_source: dict[int, list[int]] = {}
        for index, (use, _) in enumerate(places):
            by_source.setdefault(use.source, []).append(index)
        examples: list[Example | None] = [None] * len(places)
        for source, indices in by_source.items():
            records = self._records(source, [places[index][1] for index in indices])
            for index, record in zip(indices, records):
                examples[index] = self._example(*places[index], record)
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

    def _example(self, use: Use, record: int, serialized: bytes) -> Example | None:
        if id(use) not in self._rules:
            self._rules[id(use)] = use, _rules(use)
        try:
            rules = self._rules[id(use)][1]
            found = decode_example(serialized, names=[rule[0] for rule in rules])
            example = {}
            for name, feature, limit, required, size in rules:
                if name not in found:
                    raise UserError(f"no feature {name!r}")
                value = restore(name, found[name], feature)
                if size is not None:
                    value = _checked_ids(name, value, size)
                if required and not len(value):
                    return None
                example[name] = value if limit is None else value[:limit]
        except UserError as error:
            where = f"{self._folders[use.source]} record {record}"
            raise UserError(f"{where}: {error}; cache the Task again") from error
        return Example(example, record)


_Rule = tuple[str, Feature, int | None, bool, int | None]


def _checked_ids(name: str, value: np.ndarray, size: int) -> np.ndarray:
    """[tokens] int32, once none of them is outside the vocabulary."""
    unsigned = value.astype(np.int64, copy=False).view(np.uint64)  # a negative number is a large one
    if len(value) and unsigned.max() >= size:
        wrong = value[unsigned >= size][0]
        raise UserError(f"feature {name!r} holds the id {wrong}, its vocabulary has ids in [0, {size})")
    return value.astype(np.int32, copy=False)


def _rules(use: Use) -> list[_Rule]:
    """(name, feature, most tokens without EOS, whether it may not be empty, ids there are if that is looked at)."""
    manifest, rules = use.cached.manifest, []
    for name in use.objective.features:
        limit = manifest.trim.get(name)
        if limit is not None and name in manifest.append_eos:
            limit = max(0, limit - 1)
        feature = manifest.features[name]
        size = None
        # What is stored as bytes was checked when it was cached; batches are checked too (producer.py).
        if use.objective.kinds.get(name, "ids") == "ids" and feature.stored == "list":
            size = 2**31 if feature.vocabulary is None else manifest.vocabularies[feature.vocabulary].size
        rules.append((name, feature, limit, name in use.objective.required, size))
    return rules
