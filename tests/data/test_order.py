import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.order import Group, PassOrder, RateTree, Shuffle, SourceOrder, named_seed


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=20), st.integers(0, 10**9), st.integers(0, 40))
def test_rates_are_exact_over_every_prefix(rates, start, stream):
    tree = RateTree(rates)
    phases = tree.phases(seed=3, stream=stream, streams=41)
    counts = collections.Counter()
    firsts = {}
    for place in range(start, start + 200):
        source, number = tree.locate(place, phases)
        firsts.setdefault(source, number)
        assert number == firsts[source] + counts[source]  # the source's groups in order, none left out
        counts[source] += 1
    depth = int(np.ceil(np.log2(len(rates)))) + 1
    for source, rate in enumerate(rates):
        share = rate / sum(rates)
        assert abs(counts[source] - 200 * share) <= 2 * depth
        before = tree.count(source, start, phases)
        assert tree.count(source, start + 200, phases) == before + counts[source]
        if source in firsts:
            assert firsts[source] == before
            assert abs(firsts[source] - start * share) <= 2 * depth + 1e-3


def test_streams_are_not_at_the_same_place_of_the_pattern():
    """A source of 1 in 1,000 comes in a batch of 16 streams about 62 groups apart, not 16 at a time."""
    tree = RateTree([999.0, 1.0])
    firsts = sorted(
        next(place for place in range(1100) if tree.locate(place, tree.phases(0, stream, 16))[0] == 1)
        for stream in range(16)
    )
    assert np.diff(firsts).tolist() == pytest.approx([1000 / 16] * 15, abs=1)


def test_all_streams_together_are_as_even_as_one():
    """Of 500 sources in 8 streams of 250 groups each is read 4 times, most as often as that and none twice as often."""
    tree = RateTree([1.0] * 500)
    counts = collections.Counter()
    for stream in range(8):
        phases = tree.phases(0, stream, 8)
        counts.update(tree.locate(place, phases)[0] for place in range(250))
    assert len(counts) == 500
    assert max(counts.values()) <= 7
    assert np.std(list(counts.values())) < 1.2  # 2 if they were drawn


def read(order, count, start=0):
    return [record for number in range(start, start + count) for record in order[number][0]]


def test_epochs_are_permutations_and_differ():
    single = SourceOrder(50, 1, 1, 0, True, 4)
    assert [single[number][1] for number in (0, 49, 50, 149)] == [0, 0, 1, 2]
    epochs = [read(single, 50, 50 * epoch) for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert read(SourceOrder(50, 1, 1, 1, True, 4), 50) != epochs[0]
    assert read(SourceOrder(50, 1, 1, 0, True, 9), 50) == epochs[0]  # the order is the source's, not the streams'


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("records", "group", "least", "sizes"),
    [
        (10, 4, 1, [4, 4, 2]),
        (10, 4, 3, [4, 6]),  # two are too few: they join the group before
        (8, 4, 3, [4, 4]),
        (3, 16, 2, [3]),
        (3, 2, 2, [3]),
        (5, 1, 1, [1] * 5),
    ],
)
def test_groups_hold_every_record_of_an_epoch_once(records, group, least, sizes, shuffle):
    order = SourceOrder(records, group, least, 5, shuffle, 3)
    assert order.groups == len(sizes)
    for epoch in range(3):
        groups = [order[epoch * len(sizes) + place] for place in range(len(sizes))]
        assert [len(found) for found, _ in groups] == sizes
        assert {epoch_ for _, epoch_ in groups} == {epoch}
        everything = [record for found, _ in groups for record in found]
        assert sorted(everything) == list(range(records))
        if not shuffle:
            assert everything == list(range(records))


def test_finite_pass_reads_everything_once():
    for shuffle in (False, True):
        sources = [SourceOrder(count, group, 1, 0, shuffle, 1) for count, group in ((3, 1), (5, 2), (1, 4))]
        finite = PassOrder(sources, 0, shuffle)
        groups = [finite[number] for number in range(finite.size)]
        assert finite.size == 3 + 3 + 1
        places = [(group.source, record) for group in groups for record in group.records]
        assert sorted(places) == [(s, r) for s, count in enumerate([3, 5, 1]) for r in range(count)]
        assert (places == sorted(places)) is (not shuffle)
    assert PassOrder([SourceOrder(1, 1, 1, 0, True, 1)], 0, True)[0] == Group(0, (0,), 0)


@pytest.mark.parametrize("size", [1, 2, 3, 60, 2**16, 2**16 + 1, 100_003, 2**18 + 1])
def test_shuffles_are_permutations(size):
    shuffle = Shuffle(size, 7)
    for run in (0, 5) if size <= 60 else (5,):
        values = [shuffle[index] for index in range(run * size, run * size + size)]
        assert np.array_equal(np.sort(values), np.arange(run * size, run * size + size))


def test_shuffles_never_change():
    """A resumed run relies on these values, whatever the versions of its libraries."""
    assert [Shuffle(8, 3)[index] for index in range(12)] == [1, 3, 4, 6, 7, 2, 5, 0, 11, 14, 13, 9]
    assert [Shuffle(100_003, 3)[index] for index in (0, 1, 2, 100_003)] == [85449, 37705, 80968, 126740]


@pytest.mark.parametrize("size", [10_000, 70_000])
def test_neighbours_part(size):
    """Records next to each other in the file lie far apart: the mean distance of random places is a third."""
    shuffle = Shuffle(size, 1)
    values = np.array([shuffle[index] for index in range(10_000)])
    assert np.abs(np.diff(values)).mean() / size == pytest.approx(1 / 3, abs=0.01)
    assert np.corrcoef(values[:-1], values[1:])[0, 1] == pytest.approx(0, abs=0.04)  # four standard errors


def test_shuffles_spread():
    """Every element comes first about equally often."""
    firsts = collections.Counter(Shuffle(10, 0)[10 * run] % 10 for run in range(2000))
    assert len(firsts) == 10
    assert max(firsts.values()) < 260  # 200 expected, standard deviation 13
    assert min(firsts.values()) > 140


def test_small_sources_keep_what_streams_need():
    """16 streams of a source of 3 are five epochs apart: every epoch in use is made once."""
    order = SourceOrder(3, 1, 1, 0, True, 16)
    assert order._shuffle._kept == 2 + 6
    assert sorted(read(order, 3, 45)) == [0, 1, 2]


def test_named_seeds_differ():
    seeds = {named_seed(seed, name) for seed in range(20) for name in ("a", "b", "ab")}
    assert len(seeds) == 60
    assert named_seed(0, "a", "b") != named_seed(0, "ab")
    assert all(0 <= seed < 2**31 for seed in seeds)
