"""Layouts undo themselves; missing, extra and misshapen tensors are one clear line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t5x_style.errors import UserError
from t5x_style.huggingface.weights.layouts import Flat, Fused, Matrix, Table
from t5x_style.huggingface.weights.weight_map import Rule, Stacked, WeightMap, experts, one, read, write


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_matrix_is_undone(inputs, heads, dim, straight):
    layout = Matrix((inputs,), (heads, dim), straight)
    theirs = numbered(layout.theirs)
    ours = layout.read(theirs)
    assert ours.shape == (inputs, heads, dim)
    np.testing.assert_array_equal(layout.write(ours), theirs)
    x = np.ones(inputs, np.float32)
    expected = x @ theirs if straight else theirs @ x
    np.testing.assert_array_equal(np.tensordot(x, ours, 1).reshape(-1), expected)


@given(st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans())
def test_fused_is_undone(heads, dim, grouped, straight):
    part = Matrix((2,), (heads, dim), straight)
    layout = Fused((part, part, part), heads if grouped else 1)
    theirs = numbered(layout.theirs)
    pieces = layout.read(theirs)
    assert [piece.shape for piece in pieces] == [(2, heads, dim)] * 3
    np.testing.assert_array_equal(layout.write(pieces), theirs)


def test_grouped_rows_belong_to_heads():
    theirs = np.array([10, 20, 30, 11, 21, 31], np.float32)  # two heads of one dimension: q, k, v of each
    query, key, value = Fused((Flat((2, 1)),) * 3, groups=2).read(theirs)
    assert (query.tolist(), key.tolist(), value.tolist()) == ([[10], [11]], [[20], [21]], [[30], [31]])


def test_table_is_padded_with_zeros():
    layout = Table(3, 8, 2)
    ours = layout.read(numbered((3, 2)))
    assert ours.shape == (8, 2)
    assert not ours[3:].any()
    np.testing.assert_array_equal(layout.write(ours), numbered((3, 2)))


MAPPING = WeightMap(
    [one("wte", "embedding/table", Flat((2,)))],
    [
        Stacked(rule, row)
        for row in range(2)
        for rule in [
            Rule(f"h.{row}.w", ("layer/kernel",), Matrix((2,), (3,))),
            *experts(f"h.{row}.e.{{}}", "layer/experts", Flat((2,)), 3),
        ]
    ],
    [r"h\.\d\.buffer"],
)
SHAPES = {"embedding/table": (2,), "layer/kernel": (2, 2, 3), "layer/experts": (2, 3, 2)}


def tensors():
    found = {"wte": numbered((2,)), "h.0.buffer": numbered((1,))}
    for row in range(2):
        found[f"h.{row}.w"] = numbered((3, 2)) + 10 * row
        found |= {f"h.{row}.e.{expert}": numbered((2,)) + 100 * row + 10 * expert for expert in range(3)}
    return found


def test_layers_and_experts_are_stacked():
    ours = dict(read(tensors(), MAPPING, SHAPES))
    assert {path: value.shape for path, value in ours.items()} == SHAPES
    np.testing.assert_array_equal(ours["layer/kernel"][1], numbered((3, 2)).T + 10)
    assert ours["layer/experts"][1, 2].tolist() == [120, 121]
    theirs = dict(write(ours, MAPPING))
    assert set(theirs) == set(tensors()) - {"h.0.buffer"}
    for name, value in theirs.items():
        np.testing.assert_array_equal(value, tensors()[name])


def test_tensors_may_be_read_when_they_are_needed():
    asked = []

    def reader(name, value):
        return lambda: asked.append(name) or value

    lazy = {name: reader(name, value) for name, value in tensors().items()}
    first = next(iter(read(lazy, MAPPING, SHAPES)))
    assert first[0] == "embedding/table"
    assert asked == ["wte"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("h.1.w"), r"weights: tensor h\.1\.w is missing"),
        (lambda found: found.update(odd=numbered((1,))), "weights: tensor odd has no place"),
        (lambda found: found.update({"h.0.w": numbered((2, 3))}), r"h\.0\.w has shape \(2, 3\).* needs \(3, 2\)"),
    ],
)
def test_wrong_weights_are_one_line(change, message):
    found = tensors()
    change(found)
    with pytest.raises(UserError, match=message):
        list(read(found, MAPPING, SHAPES, "weights"))
