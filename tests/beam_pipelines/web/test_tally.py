"""Histograms at two significant digits: rounding, merging, limits."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web import tally
from beam_pipelines.web.document import KEEP, Measure, Verdict
from beam_pipelines.web.tally import Tally, add_signals, rounded_counts


def test_two_digits():
    values = [0.123, 0.118, 1234, 0, -0.0456, 99.6, 0.995, 1e7]
    assert rounded_counts(values) == {
        "0.12": 2, "1200": 1, "0": 1, "-0.046": 1, "100": 1, "1": 1, "1e+07": 1
    }  # fmt: skip
    assert rounded_counts([]) == {}


def test_values_that_are_no_numbers_are_counted_too():
    assert rounded_counts([math.nan, math.inf, -math.inf, math.nan, 1]) == {"nan": 2, "inf": 1, "-inf": 1, "1": 1}


@given(st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-12)))
def test_rounding_against_pythons(values):
    """Within half a unit of the second digit, and no value lost."""
    counts = rounded_counts(values)
    assert sum(counts.values()) == len(values)
    for value in values:
        near = min((float(key) for key in counts), key=lambda found: abs(found - value))
        unit = 10.0 ** (math.floor(math.log10(abs(value))) - 1) if value else 0
        assert abs(near - value) <= 0.5000001 * unit
    assert all(float(f"{float(key):.2g}") == float(key) for key in counts)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1e6)), max_size=50), st.integers(0, 50))
def test_units_add_up_to_the_whole(pairs, cut):
    """Two units' results give what one unit with all documents gives."""

    def result(part):
        made = Tally()
        for signal, value in part:
            made.count(KEEP, [Measure(signal, value, minimum=1)])
        return made.result()["signals"]

    merged: dict = {}
    add_signals(merged, result(pairs[:cut]))
    add_signals(merged, result(pairs[cut:]))
    assert merged == result(pairs)


def test_flushing_changes_nothing(monkeypatch):
    monkeypatch.setattr(tally, "_FLUSH_VALUES", 3)
    made = Tally()
    for value in range(100):
        made.count(KEEP, [Measure("x", value)])
    assert sum(made.result()["signals"]["x"]["counts"].values()) == 100
    assert made.result()["signals"]["x"]["counts"] == rounded_counts(list(range(100)))


def test_counts_edits_and_different_limits():
    made = Tally()
    assert made.count(KEEP, [Measure("x", 1, maximum=2)], {"lines_removed": 2, "emails": 0})
    assert not made.count(Verdict("x_high", 3, 2), [Measure("x", 3, maximum=2)])
    assert made.count(KEEP, [Measure("x", 3, maximum=4)])
    result = made.result()
    assert (result["in"], result["kept"], result["rejected"]) == (3, 2, {"x_high": 1})
    assert result["edits"] == {"lines_removed": 2}
    assert result["signals"]["x"] == {"counts": {"1": 1, "3": 2}, "limits": [[None, 2], [None, 4]]}


def test_time_of_an_iterator_is_its_own():
    import time

    def slow():
        for value in range(3):
            time.sleep(0.01)
            yield value

    made = Tally()
    for _ in made.timed(slow()):
        time.sleep(0.03)
    assert made.seconds == pytest.approx(0.03, abs=0.025)
