import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.mixing import ExampleOrder, RateTree, Shuffle, named_seed
from t5x_style.errors import UserError


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=20), st.integers(0, 10**9))
def test_rates_are_exact_over_every_prefix(rates, start):
    tree = RateTree(rates)
    counts = collections.Counter()
    firsts = {}
    for place in range(start, start + 200):
        source, number = tree[place]
        firsts.setdefault(source, number)
        assert number == firsts[source] + counts[source]  # the source's records in order, none left out
        counts[source] += 1
    depth = int(np.ceil(np.log2(len(rates)))) + 1
    for source, rate in enumerate(rates):
        share = rate / sum(rates)
        assert abs(counts[source] - 200 * share) <= 2 * depth
        if source in firsts:
            assert abs(firsts[source] - start * share) <= 2 * depth + 1e-3


def order(counts, rates=None, **options):
    names = [f"task{index}" for index in range(len(counts))]
    settings_ = {"seed": 0, "shuffle": True, "repeat": True, "streams": 4} | options
    return ExampleOrder(names, counts, rates or [1.0] * len(counts), **settings_)


def test_epochs_are_permutations_and_differ():
    single = order([50])
    epochs = [[single[place] for place in range(50 * epoch, 50 * epoch + 50)] for epoch in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == [(0, record) for record in range(50)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert [order([50], seed=1)[place] for place in range(50)] != epochs[0]
    assert [order([50])[place] for place in range(50)] == epochs[0]


def test_a_sources_order_does_not_depend_on_the_others():
    alone = [record for _, record in (order([30])[place] for place in range(30))]
    window = 4 * 128
    mixed = [order([30, 90], [1.0, 3.0])[place] for place in range(window)]
    assert {record for source, record in mixed if source == 0} == set(alone)
    assert all(record < 90 for source, record in mixed if source == 1)


def test_streams_of_a_mixture_see_all_sources():
    """Evenly interleaved sources sliced without a shuffle would give each stream one source."""
    mixture = order([1000, 1000, 1000, 1000])
    for stream in range(4):
        sources = collections.Counter(mixture[4 * index + stream][0] for index in range(512))
        assert len(sources) == 4
        assert max(sources.values()) < 200


def test_finite_pass_reads_everything_once():
    for shuffle in (False, True):
        finite = order([3, 5, 1], [1.0, 10.0, 0.1], repeat=False, shuffle=shuffle)
        places = [finite[place] for place in range(finite.size)]
        assert finite.size == 9
        assert sorted(places) == [(s, r) for s, count in enumerate([3, 5, 1]) for r in range(count)]
        assert (places == sorted(places)) is (not shuffle)


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


def test_file_order():
    assert [order([3], shuffle=False)[place] for place in range(5)] == [(0, 0), (0, 1), (0, 2), (0, 0), (0, 1)]
    with pytest.raises(UserError, match="shuffle=False"):
        order([3, 4], shuffle=False)


def test_named_seeds_differ():
    seeds = {named_seed(seed, name) for seed in range(20) for name in ("a", "b", "ab")}
    assert len(seeds) == 60
    assert named_seed(0, "a", "b") != named_seed(0, "ab")
    assert all(0 <= seed < 2**31 for seed in seeds)
