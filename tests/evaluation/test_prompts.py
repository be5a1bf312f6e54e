"""Cutting inputs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.data.vocabulary import Vocabulary, start_id
from t5x_style.evaluation import prompts


def test_cut_sides_and_count():
    rows = [[1, 2, 3], [4], []]
    assert prompts.cut(rows, 2, "left") == ([[2, 3], [4], []], 1)
    assert prompts.cut(rows, 2, "right") == ([[1, 2], [4], []], 1)
    assert prompts.cut(rows, 3, "left") == (rows, 0)
    assert prompts.cut(rows, 1, "left") == ([[3], [4], []], 1)


@given(st.lists(st.lists(st.integers(0, 9), max_size=12)), st.integers(1, 12), st.sampled_from(["left", "right"]))
def test_cut_keeps_the_other_end(rows, budget, side):
    kept, count = prompts.cut(rows, budget, side)
    assert count == sum(len(row) > budget for row in rows)
    for row, short in zip(rows, kept):
        assert len(short) == min(len(row), budget)
        assert short == (row[len(row) - len(short) :] if side == "left" else row[: len(short)])


@pytest.mark.parametrize(("bos", "start"), [(3, 3), (None, 0)])
def test_start_id_is_bos_or_padding(vocabulary_file, bos, start):
    vocabulary = Vocabulary(vocabulary_file)
    vocabulary.bos_id = bos
    assert start_id(vocabulary) == start
