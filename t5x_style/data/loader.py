"""The loader: token shards in, batches [accumulation, rows, length] out, resumable on any number of hosts."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from t5x_style.data.batches import PAD
from t5x_style.data.data_config import DataConfig
from t5x_style.data.mixing import ExampleOrder
from t5x_style.data.packing import Rows, SpecialIds
from t5x_style.data.prefetch import Prefetcher
from t5x_style.data.sources import Reader, Source, SourceSet, feature_lengths, resolve_sources
from t5x_style.data.streams import ReadCounts, RowStream, StreamPlan, StreamState
from t5x_style.errors import UserError
from t5x_style.files import fingerprint

Batch = dict[str, np.ndarray]
STATE_FORMAT = 1
# Examples read, evenly spaced, to learn a source's mean length where the manifest cannot tell: a standard error of
# 6% for lengths that spread as much as their mean (1 / sqrt(256)).
_MEASURED_EXAMPLES = 256


@dataclasses.dataclass
class BatchCounts:
    """What the batches handed out since opening or restoring held, on this process.

    slots: rows * length. tokens: slots of the decoder that are no padding. loss_tokens: those with a loss weight.
    tokens_by_source: tokens of each source, by its index.
    """

    batches: int = 0
    rows: int = 0
    slots: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    tokens_by_source: dict[int, int] = dataclasses.field(default_factory=dict)


class _Produced(NamedTuple):
    """A batch with the position and the counts after it."""

    batch: Batch
    states: dict[int, StreamState]
    read: ReadCounts


def open_loader(config: DataConfig, rows: Sequence[int] | None = None) -> Loader:
    """Opens a loader at the beginning of its data.

    Args:
      config: what to read.
      rows: the microbatch's rows that this process feeds, in the order wanted; None is all.

    Raises:
      UserError: rows out of range; or a cache, mixture or vocabulary that does not fit (see `resolve_sources`).
    """
    wanted = list(range(config.rows)) if rows is None else [operator.index(row) for row in rows]
    if not wanted or len(set(wanted)) != len(wanted) or min(wanted) < 0 or max(wanted) >= config.rows:
        raise UserError(f"open_loader: rows {wanted} must be different rows out of 0..{config.rows - 1}")
    objective = config.objective
    found = resolve_sources(config.cache_dir, config.name, config.split, objective, config.rates, config.unit)
    reader = Reader(config.cache_dir, found, objective)
    rates = _example_rates(config, found, reader)
    order = ExampleOrder(
        [source.name for source in found.sources],
        [source.manifest.examples for source in found.sources],
        rates,
        seed=config.seed,
        shuffle=config.shuffle,
        repeat=config.repeat,
        streams=config.open_streams,
    )
    plan = StreamPlan(
        order=order,
        streams=config.open_streams,
        reader=reader,
        objective=objective,
        length=config.length,
        packing=config.packing,
        seed=config.seed,
        shuffle=config.shuffle,
        ids=_special_ids(config, found),
    )
    return Loader(config, wanted, found, rates, plan)


def _special_ids(config: DataConfig, found: SourceSet) -> SpecialIds:
    pad = 0 if found.vocabulary is None or found.vocabulary.pad_id is None else found.vocabulary.pad_id
    start = config.objective.start_id
    if start is None and found.vocabulary is not None:
        start = found.vocabulary.bos_id
    start = pad if start is None else start
    if found.vocabulary is not None and start >= found.vocabulary.size:
        raise UserError(f"start_id {start} is outside the vocabulary of {found.vocabulary.size} pieces")
    return SpecialIds(pad, start)


def _example_rates(config: DataConfig, found: SourceSet, reader: Reader) -> list[float]:
    """Relative example rates: token rates divided by the mean tokens of an example, example rates as they are."""
    if found.unit == "examples" or len(found.sources) == 1 or not config.repeat:
        return [source.rate for source in found.sources]
    return [source.rate / _mean_tokens(config, index, source, reader) for index, source in enumerate(found.sources)]


def _mean_tokens(config: DataConfig, index: int, source: Source, reader: Reader) -> float:
    """Mean decoder tokens of an example of a source, after the objective."""
    lengths = feature_lengths(source, config.objective)
    mean = None if lengths is None else config.objective.mean_tokens(lengths, config.length)
    if mean is not None:
        return mean
    count = source.manifest.examples
    records = np.unique(np.linspace(0, count - 1, min(count, _MEASURED_EXAMPLES)).astype(int)).tolist()
    total = 0
    for example in reader.read([(index, record) for record in records]):
        if example is not None:
            pieces = config.objective.segments(example, config.length, lambda: np.random.default_rng(config.seed))
            total += sum(len(fields["decoder_target_tokens"]) for fields in pieces.segments)
    return max(1.0, total) / len(records)


class Loader(Iterator[Batch]):
    """Iterator of batches; made by `open_loader`.

    The position is that after the last batch handed out; what the background thread has made ahead does not count.
    """

    def __init__(self, config: DataConfig, rows: list[int], found: SourceSet, rates: list[float], plan: StreamPlan):
        self.config = config
        self._found, self._rates, self._plan = found, rates, plan
        self._producer = _Producer(config, rows, plan)
        self._identity = _identity(config, found, rates)
        self._prefetcher: Prefetcher | None = None
        self._closed = False
        self._restart(self._producer.states())

    def __next__(self) -> Batch:
        """The next batch: field -> [accumulation, rows of this process, length].

        Raises:
          StopIteration: a finite pass is over. UserError: a shard cannot be read, or the loader was closed.
        """
        if self._closed:
            raise UserError("the loader was closed; open another one")
        if self._prefetcher is None and self.config.prefetch:
            self._prefetcher = Prefetcher(self._producer.produce, self.config.prefetch)
        produced = self._prefetcher.get() if self._prefetcher else self._producer.produce()
        if produced is None:
            raise StopIteration
        self._states, self._read = produced.states, produced.read
        self._count(produced.batch)
        return produced.batch

    def get_state(self) -> dict[str, Any]:
        """The position as a small JSON object: this process's streams; see `merge_states`."""
        streams = {str(index): state.to_json() for index, state in sorted(self._states.items())}
        return {"format": STATE_FORMAT, "data": dict(self._identity), "streams": streams}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a position from `get_state` or `merge_states`; the next batches equal those of the first run.

        Raises:
          UserError: the state is of other data or settings, or lacks a stream of this process.
        """
        if state.get("format") != STATE_FORMAT:
            raise UserError(f"loader state has format {state.get('format')!r}, this version reads {STATE_FORMAT}")
        for name, value in self._identity.items():
            saved = state["data"].get(name)
            if saved != value:
                raise UserError(
                    f"loader state was made with {name} = {saved!r}, the run has {value!r}; "
                    "set it back, or start a new run from the checkpoint's parameters"
                )
        missing = [index for index in self._states if str(index) not in state["streams"]]
        if missing:
            raise UserError(f"loader state lacks the streams {missing}; merge the states of all processes first")
        self._restart({index: StreamState.from_json(state["streams"][str(index)]) for index in self._states})

    @staticmethod
    def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """`merge_states` of this module, for callers that have only a loader."""
        return merge_states(states)

    def summary(self) -> dict[str, Any]:
        """What is read.

        Returns:
          name, split, sources (names, in the order of source_ids), rates (declared, in `unit`), example_rates
          (share of each source's examples in the mixture), examples and tokens (of each source's cache), vocabulary
          (fingerprint), vocabulary_size, unit, pad_id, start_id, streams (all of them, and those open here).
        """
        sources, total = self._found.sources, sum(self._rates)
        vocabulary = self._found.vocabulary
        return {
            "name": self.config.name,
            "split": self.config.split,
            "sources": [source.name for source in sources],
            "rates": {source.name: source.rate for source in sources},
            "example_rates": {source.name: rate / total for source, rate in zip(sources, self._rates)},
            "examples": {source.name: source.manifest.examples for source in sources},
            "tokens": {source.name: dict(source.manifest.tokens) for source in sources},
            "vocabulary": self._found.fingerprint,
            "vocabulary_size": None if vocabulary is None else vocabulary.size,
            "unit": self._found.unit,
            "pad_id": self._plan.ids.pad,
            "start_id": self._plan.ids.start,
            "streams": self.config.open_streams,
            "open_streams": sorted(self._states),
        }

    def counters(self) -> dict[str, Any]:
        """Counts since opening or restoring, on this process.

        Returns:
          Those of `BatchCounts` with padding_fraction and tokens_by_source by name (the batches handed out), and
          those of `ReadCounts` with the prefix `read_` (examples read, some of them for batches to come).
        """
        counts = dataclasses.asdict(self._counts)
        counts["padding_fraction"] = 1 - counts["tokens"] / counts["slots"] if counts["slots"] else 0.0
        by_source = counts.pop("tokens_by_source")
        counts["tokens_by_source"] = {
            source.name: by_source.get(index, 0) for index, source in enumerate(self._found.sources)
        }
        return counts | {f"read_{name}": value for name, value in dataclasses.asdict(self._read).items()}

    def close(self) -> None:
        """Stops the background thread and closes the shards. A closed loader gives no more batches."""
        self._stop()
        self._plan.reader.close()
        self._closed = True

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def _restart(self, states: dict[int, StreamState]) -> None:
        self._stop()
        self._producer.restore(states)
        self._states, self._read, self._counts = states, ReadCounts(), BatchCounts()

    def _count(self, batch: Batch) -> None:
        counts, spec = self._counts, self._plan.objective.spec
        side = spec.sides[-1]
        segment_ids = batch[f"{side}_segment_ids"]
        counts.batches += 1
        counts.rows += segment_ids.shape[0] * segment_ids.shape[1]
        counts.slots += segment_ids.size
        counts.tokens += int(np.count_nonzero(segment_ids))
        counts.loss_tokens += int(np.count_nonzero(batch[f"{side}_loss_weights"]))
        tokens = np.bincount(batch["source_ids"].ravel() + 1, minlength=1)[1:]
        for index in np.flatnonzero(tokens).tolist():
            counts.tokens_by_source[index] = counts.tokens_by_source.get(index, 0) + int(tokens[index])


class _Producer:
    """Makes batches; used by one thread at a time."""

    def __init__(self, config: DataConfig, rows: list[int], plan: StreamPlan):
        self._config, self._plan = config, plan
        self._wanted = {row: index for index, row in enumerate(rows)}
        self._shapes = config.batch_shapes(rows)
        self._padding = {
            field.name: plan.ids.pad if field.padding == PAD else field.padding
            for field in config.objective.spec.fields
        }
        # A finite pass ends when all rows have ended, which every process must see at the same batch: so each packs
        # the whole of it and keeps its own rows.
        opened = {config.stream_of(row) for row in (rows if config.repeat else range(config.rows))}
        self._streams = {index: RowStream(plan, index) for index in sorted(opened)}

    def states(self) -> dict[int, StreamState]:
        return {index: stream.state for index, stream in self._streams.items()}

    def restore(self, states: dict[int, StreamState]) -> None:
        for index, stream in self._streams.items():
            stream.restore(states[index])
            stream.counts = ReadCounts()

    def produce(self) -> _Produced | None:
        """The next batch; None when no stream has a row left."""
        batch = {name: np.full(shape, self._padding[name], dtype) for name, (shape, dtype) in self._shapes.items()}
        filled = False
        for micro in range(self._config.accumulation):
            for row in range(self._config.rows):
                stream = self._streams.get(self._config.stream_of(row))
                values = None if stream is None else stream.next_row()
                filled |= values is not None
                if values is not None and row in self._wanted:
                    self._copy(values, batch, micro, self._wanted[row])
        return _Produced(batch, self.states(), self._read_counts()) if filled else None

    def _copy(self, values: Rows, batch: Batch, micro: int, row: int) -> None:
        for name, value in values.items():
            batch[name][micro, row] = value

    def _read_counts(self) -> ReadCounts:
        total = ReadCounts()
        for stream in self._streams.values():
            for field in dataclasses.fields(ReadCounts):
                setattr(total, field.name, getattr(total, field.name) + getattr(stream.counts, field.name))
        return total


def _identity(config: DataConfig, found: SourceSet, rates: list[float]) -> dict[str, Any]:
    """What must be equal for a state to mean the same batches; short, and readable in a message."""
    sources = [
        [source.name, rate, [[shard.examples, shard.bytes] for shard in source.manifest.shards]]
        for source, rate in zip(found.sources, rates)
    ]
    names = ("name", "split", "length", "packing", "seed", "shuffle", "repeat")
    return {name: getattr(config, name) for name in names} | {
        "streams": config.open_streams,
        "objective": repr(config.objective),
        "sources": f"{len(sources)} sources {fingerprint(sources)[:12]}",
    }


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins the states of all processes of a run into one that any other number of processes can restore.

    Raises:
      UserError: no state; states of different data; or two that disagree about a stream (taken at different steps).
    """
    states = list(states)
    if not states:
        raise UserError("merge_states: there is no state to merge")
    first = states[0]
    streams: dict[str, Any] = {}
    for state in states:
        if state["format"] != first["format"] or state["data"] != first["data"]:
            raise UserError(
                "merge_states: the states are of different data; every process must open the same DataConfig"
            )
        for index, value in state["streams"].items():
            if streams.setdefault(index, value) != value:
                raise UserError(
                    f"merge_states: stream {index} differs between processes; take all states after one step"
                )
    ordered = {index: streams[index] for index in sorted(streams, key=int)}
    return {"format": first["format"], "data": dict(first["data"]), "streams": ordered}
