"""The check that refuses what some runners lose without a word, and the graphs that pass it."""

import apache_beam as beam
import pytest
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

from beam_pipelines import portable
from beam_pipelines.units import Unit

UNITS = [Unit("a", "f"), Unit("b", "f")]


def pipeline() -> beam.Pipeline:
    return beam.Pipeline(runner="FnApiRunner")


def test_our_graphs_are_portable():
    graph = pipeline()
    portable.map_units(graph, [UNITS], print)
    assert portable.violations(graph) == []
    graph = pipeline()
    portable.shuffle_blocks(graph, [[unit] for unit in UNITS], lambda unit: [], print)
    assert portable.violations(graph) == []


def test_everything_that_is_allowed():
    graph = pipeline()
    numbers = graph | beam.Create([1, 2]) | beam.Reshuffle() | beam.Map(lambda x: (x, x))
    more = graph | "more" >> beam.Create([(3, 3)])
    side = graph | "side" >> beam.Create([1])
    both = (numbers, more) | beam.Flatten() | beam.Map(lambda x, extra: x, beam.pvalue.AsSingleton(side))
    _ = both | beam.GroupByKey() | beam.Map(lambda kv: (kv[0], len(list(kv[1])))) | beam.CombinePerKey(sum)
    assert portable.violations(graph) == []


class Stateful(beam.DoFn):
    STATE = ReadModifyWriteStateSpec("x", beam.coders.VarIntCoder())

    def process(self, element, state=beam.DoFn.StateParam(STATE)):  # noqa: B008 - Beam's way
        yield element


class Finishing(beam.DoFn):
    def process(self, element):
        yield element

    def finish_bundle(self):
        yield beam.utils.windowed_value.WindowedValue(1, 0, [beam.window.GlobalWindow()])


class Tagging(beam.DoFn):
    def process(self, element):
        yield beam.pvalue.TaggedOutput("odd", element)


def two_leaves(graph):
    start = graph | beam.Create([1])
    _ = start | "one" >> beam.Map(print)
    _ = start | "two" >> beam.Map(print)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda graph: graph | beam.Create([(1, 1)]) | beam.ParDo(Stateful()), "state or timers"),
        (lambda graph: graph | beam.Create([1]) | beam.ParDo(Finishing()), "finish_bundle"),
        (lambda graph: graph | beam.Create([1]) | beam.ParDo(Tagging()).with_outputs("odd", main="even"), "tagged"),
        (lambda graph: graph | beam.Create(["x"]) | beam.io.WriteToText("/tmp/never"), "file source or sink"),
        (lambda graph: graph | beam.io.ReadFromText(__file__), "file source or sink"),
        (two_leaves, "2 leaves"),
    ],
)
def test_what_is_refused(build, message):
    graph = pipeline()
    build(graph)
    assert message in "; ".join(portable.violations(graph))
    with pytest.raises(RuntimeError, match="lose data"):
        portable.check(graph)
