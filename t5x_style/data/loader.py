"""The loader: token shards in, batches [accumulation, rows, length] out, resumable on any number of hosts."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style.data.data_config import DataConfig
from t5x_style.data.identity import check_identity, identity, stored
from t5x_style.data.order import PassOrder, RateTree, SourceOrder, named_seed
from t5x_style.data.prefetch import Prefetcher
from t5x_style.data.producer import Batch, Producer
from t5x_style.data.rates import expected_epochs, group_rates
from t5x_style.data.reader import Reader
from t5x_style.data.sources import SourceSet, resolve_sources
from t5x_style.data.stream_plan import PlannedPart, StreamPlan
from t5x_style.data.stream_state import ReadCounts, StreamState
from t5x_style.errors import UserError

RowsOfProcess = Sequence[int] | Callable[[int], Sequence[int]]
STATE_FORMAT = 2


@dataclasses.dataclass
class BatchCounts:
    """What the batches handed out since opening or restoring held, on this process.

    rows: of all microbatches. slots: places of all sides that have segments. tokens: those that are no padding.
    loss_tokens: those with a loss weight. sides: tokens by side.
    """

    batches: int = 0
    rows: int = 0
    slots: int = 0
    tokens: int = 0
    loss_tokens: int = 0
    sides: dict[str, int] = dataclasses.field(default_factory=dict)


def open_loader(config: DataConfig, rows: RowsOfProcess | None = None) -> Loader:
    """Opens a loader at the beginning of its data.

    Args:
      config: what to read.
      rows: the microbatch's rows that this process feeds, in the order wanted; None is all. Where stages change the
        batch size, a function from the number of rows to them.

    Raises:
      UserError: rows out of range; or a cache, mixture or vocabulary that does not fit (see `resolve_sources`).
    """
    return Loader(config, rows, resolve_sources(config))


def _rows_of(config: DataConfig, rows: RowsOfProcess | None, batch_size: int) -> list[int]:
    """This process's rows of a stage."""
    count = batch_size // config.accumulation
    if rows is None:
        return list(range(count))
    if not callable(rows) and len({part.batch_size for part in config.parts}) > 1:
        raise UserError(
            "open_loader: the stages change the batch size; give a function from the number of rows to this process's"
        )
    wanted = [operator.index(row) for row in (rows(count) if callable(rows) else rows)]
    if not wanted or len(set(wanted)) != len(wanted) or min(wanted) < 0 or max(wanted) >= count:
        raise UserError(f"open_loader: rows {wanted} must be different rows out of 0..{count - 1}")
    return wanted


class Loader(Iterator[Batch]):
    """Iterator of batches; made by `open_loader`.

    The position is that after the last batch handed out; what the background thread has made ahead does not count.
    """

    def __init__(self, config: DataConfig, rows: RowsOfProcess | None, found: SourceSet):
        self.config = config
        self._found = found
        self._rows = [_rows_of(config, rows, part.batch_size) for part in found.parts]
        self._reader = Reader(found.sources)
        self._rates = [group_rates(config, part, self._reader) for part in found.parts]
        self._trees = [RateTree(rates) for rates in self._rates]
        self._prefetcher: Prefetcher | None = None
        self._closed = False
        self._plan_streams(config.open_streams)
        self._restart(self._producer.states(), 0)

    def _plan_streams(self, streams: int) -> None:
        """Lays the streams out anew: V may come from a state."""
        config, found = self.config, self._found
        self._streams = streams
        objectives: dict[int, Any] = {}
        for part in found.parts:
            for use in part.uses:
                before = objectives.setdefault(use.source, use.objective)
                if (before.group, before.least) != (use.objective.group, use.objective.least):
                    raise UserError(
                        f"DataConfig.stages: source {use.cached.name!r} is read {before.group} examples at a time, "
                        f"from step {part.step} {use.objective.group}; give it another name there"
                    )
        orders = [
            SourceOrder(
                cached.manifest.examples,
                objectives[index].group,
                objectives[index].least,
                named_seed(config.seed, cached.name),
                config.shuffle,
                streams,
            )
            for index, cached in enumerate(found.sources)
        ]
        first = found.parts[0]
        plan = StreamPlan(
            parts=[PlannedPart(part.uses, tree, part.lengths) for part, tree in zip(found.parts, self._trees)],
            sources=orders,
            one_pass=None
            if config.repeat
            else PassOrder([orders[use.source] for use in first.uses], config.seed, config.shuffle),
            streams=streams,
            reader=self._reader,
            spec=config.spec,
            pad=first.uses[0].ids.pad,
            packing=config.packing,
            isolate=config.isolate,
            seed=config.seed,
            shuffle=config.shuffle,
        )
        self._plan = plan
        self._producer = Producer(config, self._rows, found, plan)
        self._identity = identity(config, found, self._rates, streams)

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
        self._batches += 1
        self._count(produced.batch)
        return produced.batch

    def get_state(self) -> dict[str, Any]:
        """The position as a small JSON object: this process's streams; see `merge_states`."""
        streams = {str(index): state.to_json() for index, state in sorted(self._states.items())}
        return {
            "format": STATE_FORMAT,
            "batches": self._batches,
            "identity": stored(self._identity),
            "streams": streams,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to a position from `get_state` or `merge_states`; the next batches equal those of the first run.

        Raises:
          UserError: the state is of other data or settings, or lacks a stream of this process.
        """
        if state.get("format") != STATE_FORMAT:
            raise UserError(
                f"loader state has format {state.get('format')!r}, this version reads {STATE_FORMAT}; start a new run "
                "from the checkpoint's parameters (init_from)"
            )
        try:
            streams = int(state["identity"]["settings"]["streams"])
            known = {str(index): StreamState.from_json(value) for index, value in state["streams"].items()}
            batches = int(state["batches"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"the loader state is broken ({type(error).__name__}: {error})") from error
        own_streams = self._streams
        if self.config.streams is None and self.config.repeat:
            own_streams = streams
            self._check_streams(streams)
        check_identity(state["identity"], identity(self.config, self._found, self._rates, own_streams), batches)
        if own_streams != self._streams:
            self._stop()
            self._plan_streams(own_streams)
        own = self._producer.states()
        missing = [index for index in own if str(index) not in known]
        if missing:
            raise UserError(f"loader state lacks the streams {missing}; merge the states of all processes first")
        self._restart({index: known[str(index)] for index in own}, batches)

    def _check_streams(self, streams: int) -> None:
        """That a state's row streams divide the rows of every microbatch."""
        for part in self._found.parts:
            rows = part.batch_size // self.config.accumulation
            if rows % streams:
                possible = [n for n in range(1, part.batch_size + 1) if part.batch_size % (n * streams) == 0]
                raise UserError(
                    f"loader state was made with streams = {streams}, of which {rows} rows of a microbatch (batch_size "
                    f"{part.batch_size} / accumulation {self.config.accumulation}) are no multiple; with it "
                    f"accumulation can be {', '.join(map(str, possible)) or 'none'}"
                )

    @staticmethod
    def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
        """`merge_states` of this module, for callers that have only a loader."""
        return merge_states(states)

    def summary(self) -> dict[str, Any]:
        """What is read.

        Returns:
          name, split, sources (names, in the order of source_ids), weights (declared, in `unit`, those of a Mixture
          its own rates) and group_rates (share of each source's groups) before the first stage, examples and tokens (of
          each source's cache), vocabulary (fingerprint), vocabulary_size, unit, pad_id, start_id, streams (all of them,
          and those open here), stages (step, group_rates, lengths, batch_size).
        """
        found, first = self._found, self._found.parts[0]
        vocabulary = found.vocabulary
        return {
            "name": self.config.name,
            "split": self.config.split,
            "sources": [cached.name for cached in found.sources],
            "weights": {use.cached.name: use.share.weight * use.share.rate for use in first.uses},
            "group_rates": self._shares(0),
            "examples": {cached.name: cached.manifest.examples for cached in found.sources},
            "tokens": {cached.name: _ids_only(cached.manifest) for cached in found.sources},
            "vocabulary": found.fingerprint,
            "vocabulary_size": None if vocabulary is None else vocabulary.size,
            "unit": first.unit,
            "pad_id": self._plan.pad,
            "start_id": first.uses[0].ids.start,
            "streams": self._streams,
            "open_streams": sorted(self._states),
            "stages": [
                {
                    "step": part.step,
                    "group_rates": self._shares(number),
                    "lengths": dict(part.lengths),
                    "batch_size": part.batch_size,
                }
                for number, part in enumerate(found.parts)
            ],
        }

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each source is read in so many steps, about; measured on 256 examples of each source."""
        return expected_epochs(self.config, self._found, self._rates, self._reader, steps)

    def _shares(self, part: int) -> dict[str, float]:
        rates = self._rates[part]
        return {use.cached.name: rate / sum(rates) for use, rate in zip(self._found.parts[part].uses, rates)}

    def counters(self) -> dict[str, Any]:
        """Counts on this process: since opening or restoring, but for tokens_by_source, which is of the whole run.

        Returns:
          Those of `BatchCounts` with padding_fraction; tokens_by_source, tokens of the cache handed out by each source;
          and those of `ReadCounts` with the prefix `read_` (examples read, some of them for batches to come).
        """
        counts = dataclasses.asdict(self._counts)
        counts["padding_fraction"] = 1 - counts["tokens"] / counts["slots"] if counts["slots"] else 0.0
        by_source = {cached.name: 0 for cached in self._found.sources}
        for state in self._states.values():
            for index, tokens in state.tokens.items():
                by_source[self._found.sources[index].name] += tokens
        counts["tokens_by_source"] = by_source
        return counts | {f"read_{name}": value for name, value in dataclasses.asdict(self._read).items()}

    def close(self) -> None:
        """Stops the background thread and closes the shards. A closed loader gives no more batches."""
        self._stop()
        self._reader.close()
        self._closed = True

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stop(self) -> None:
        if self._prefetcher is not None:
            self._prefetcher.close()
            self._prefetcher = None

    def _restart(self, states: dict[int, StreamState], batches: int) -> None:
        self._stop()
        self._producer.restore(states, batches)
        self._states, self._batches = states, batches
        self._read, self._counts = ReadCounts(), BatchCounts()

    def _count(self, batch: Batch) -> None:
        counts, spec = self._counts, self._plan.spec
        counts.batches += 1
        first = batch[spec.fields[0].name]
        counts.rows += first.shape[0] * first.shape[1]
        for side, name in spec.of_role("segment_ids").items():
            tokens = int(np.count_nonzero(batch[name]))
            counts.slots += batch[name].size
            counts.tokens += tokens
            counts.sides[side] = counts.sides.get(side, 0) + tokens
            if (weights := batch.get(f"{side}_loss_weights")) is not None:
                counts.loss_tokens += int(np.count_nonzero(weights))


def _ids_only(manifest: Any) -> dict[str, int]:
    return {name: count for name, count in manifest.tokens.items() if manifest.features[name].kind == "ids"}


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
        if any(state[key] != first[key] for key in ("format", "batches", "identity")):
            raise UserError(
                "merge_states: the states are of different data or steps; every process must open the same DataConfig"
            )
        for index, value in state["streams"].items():
            if streams.setdefault(index, value) != value:
                raise UserError(
                    f"merge_states: stream {index} differs between processes; take all states after one step"
                )
    ordered = {index: streams[index] for index in sorted(streams, key=int)}
    return {key: first[key] for key in ("format", "batches", "identity")} | {"streams": ordered}
