"""The check that refuses what some runners lose without a word, and the graphs that pass it."""

import apache_beam as beam
import pytest
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

from beam_pipelines.jobs import portable
from beam_pipelines.jobs.unit import Unit

UNITS = [Unit("a", "f"), Unit("b", "f")]


class OffsetRestriction(beam.transforms.core.RestrictionProvider):
    def initial_restriction(self, element):
        return 0, 1

    def create_tracker(self, restriction):
        raise NotImplementedError

    def restriction_size(self, element, restriction):
        return 1


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


class Splitting(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(OffsetRestriction())):  # noqa: B008 - Beam's way
        yield element


class Timed(beam.DoFn):
    TIMER = TimerSpec("x", TimeDomain.WATERMARK)

    def process(self, element, timer=beam.DoFn.TimerParam(TIMER)):  # noqa: B008 - Beam's way
        yield element

    @on_timer(TIMER)
    def expire(self):
        yield 1


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
        (lambda graph: graph | beam.Create([(1, 1)]) | beam.ParDo(Timed()), "state or timers"),
        (lambda graph: graph | beam.Create([1]) | beam.ParDo(Splitting()), "splittable"),
        (lambda graph: graph | beam.Create([1]) | beam.Map(print).with_exception_handling(), "tagged"),
        (lambda graph: graph | beam.Create([1]) | beam.Partition(lambda x, n: 0, 2), "tagged"),
        (lambda graph: graph | beam.Create([1]) | beam.WindowInto(beam.window.FixedWindows(5)), "windows"),
        (lambda graph: graph | beam.Create([b"x"]) | beam.io.WriteToTFRecord("/tmp/never"), "file source or sink"),
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
