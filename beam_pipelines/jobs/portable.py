"""The graphs our jobs are made of, and the check that a graph keeps to what every runner does right.

Allowed: Create, Reshuffle of names, Map, FlatMap, GroupByKey, Combine, Flatten, side inputs, one leaf. Beam's file
sinks, tagged outputs, state and timers and output from finish_bundle are lost without a word on Dask, which knows
neither windows nor splittable functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.pipeline import PipelineVisitor
from apache_beam.runners.common import DoFnSignature
from apache_beam.transforms.userstate import is_stateful_dofn
from apache_beam.transforms.util import _IdentityWindowFn
from apache_beam.transforms.window import GlobalWindows

from beam_pipelines.jobs.job_files import load_batches
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.jobs.worker_pool import call_batch

Work = Sequence[Sequence[Unit]] | Sequence[str]  # batches of units, or files that hold them
_PRIMITIVES = (beam.ParDo, beam.GroupByKey, beam.Flatten, beam.Impulse, beam.Create, beam.WindowInto)

_WINDOWS = (GlobalWindows, _IdentityWindowFn)  # the other is Reshuffle's own


def map_units(pipeline: beam.Pipeline, work: Work, function: Callable[[Unit], None]) -> None:
    """Create of units | Reshuffle | FlatMap: the graph of a map job."""
    _ = _spread(pipeline, work) | "Run" >> beam.FlatMap(partial(call_batch, function)).with_output_types(int)


def shuffle_blocks(
    pipeline: beam.Pipeline,
    work: Work,
    emit: Callable[[Unit], Iterable[tuple[int, tuple[int, bytes]]]],
    reduce: Callable[[tuple[int, Iterable[tuple[int, bytes]]]], None],
) -> None:
    """Create of units | Reshuffle | FlatMap | GroupByKey | Map: the graph of a shuffle job."""
    blocks = tuple[int, tuple[int, bytes]]
    _ = (
        _spread(pipeline, work)
        | "Emit" >> beam.FlatMap(partial(_emit_batch, emit)).with_output_types(blocks)
        | "Group" >> beam.GroupByKey()
        | "Reduce" >> beam.Map(reduce)
    )


def _spread(pipeline: beam.Pipeline, work: Work) -> beam.PCollection:
    """Batches of units, each to go to whichever worker is free."""
    created = pipeline | "Units" >> beam.Create(list(work), reshuffle=False)
    if any(isinstance(item, str) for item in work):
        created |= "Read" >> beam.FlatMap(load_batches)
    return created | "Spread" >> beam.Reshuffle()


def _emit_batch(
    emit: Callable[[Unit], Iterable[tuple[int, tuple[int, bytes]]]], batch: Sequence[Unit]
) -> Iterable[tuple[int, tuple[int, bytes]]]:
    for unit in batch:
        yield from emit(unit)


class _Violations(PipelineVisitor):
    """Collects what a graph holds beyond the portable subset."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._consumed: set[Any] = set()
        self._produced: dict[Any, str] = {}

    def visit_transform(self, transform_node: Any) -> None:
        transform, label = transform_node.transform, transform_node.full_label
        self._consumed.update(transform_node.inputs)
        self._consumed.update(side.pvalue for side in transform_node.side_inputs)
        for tag, output in transform_node.outputs.items():
            self._produced[output] = label
            if tag not in (None, "None"):
                self.found.append(f"{label}: tagged output {tag!r}")
        if transform is not None and not isinstance(transform, _PRIMITIVES):
            self.found.append(f"{label}: {type(transform).__name__} is no part of the portable subset")
        if isinstance(transform, beam.ParDo):
            self._visit_function(transform.fn, label)
        if isinstance(transform, beam.WindowInto) and not isinstance(transform.windowing.windowfn, _WINDOWS):
            self.found.append(f"{label}: windows")

    def enter_composite_transform(self, transform_node: Any) -> None:
        transform = transform_node.transform
        if type(transform).__module__.startswith("apache_beam.io") or isinstance(transform, beam.io.Write):
            self.found.append(f"{transform_node.full_label}: {type(transform).__name__} is a Beam file source or sink")

    def _visit_function(self, function: beam.DoFn, label: str) -> None:
        if is_stateful_dofn(function):
            self.found.append(f"{label}: state or timers")
        if type(function).finish_bundle is not beam.DoFn.finish_bundle:
            self.found.append(f"{label}: finish_bundle")
        if DoFnSignature(function).is_splittable_dofn():
            self.found.append(f"{label}: a splittable function")

    def leaves(self) -> list[str]:
        return [label for output, label in self._produced.items() if output not in self._consumed]


def violations(pipeline: beam.Pipeline) -> list[str]:
    """What in a graph goes beyond the portable subset, one sentence each."""
    visitor = _Violations()
    pipeline.visit(visitor)
    leaves = visitor.leaves()
    if len(leaves) != 1:
        visitor.found.append(f"{len(leaves)} leaves ({', '.join(sorted(leaves))}); Dask keeps only the last")
    return visitor.found


def check(pipeline: beam.Pipeline) -> None:
    """Raises RuntimeError if a graph goes beyond the portable subset."""
    if found := violations(pipeline):
        raise RuntimeError(f"the graph would lose data on some runners: {'; '.join(found)}")
