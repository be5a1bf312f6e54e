import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.batches import CAUSAL_LM, PREFIX_LM_BIDIRECTIONAL, BatchSpec, Field
from t5x_style.data.packing import Placed, SpecialIds, assemble_rows, assign_rows, segment_lengths

IDS = SpecialIds(pad=0, start=3)


def targets(*values, **more):
    return {"decoder_target_tokens": np.array(values, np.int32), **more}


def assemble(segments, row_of, rows, spec=CAUSAL_LM, length=6, ids=IDS):
    placed = [Placed(fields, source) for source, fields in segments]
    arrays = assemble_rows(placed, np.array(row_of), rows, spec, {"decoder": length}, ids)
    return {name: array.tolist() for name, array in arrays.items()}


def test_worked_example():
    rows = assemble([(0, targets(7, 8, 1)), (2, targets(5, 6, 4, 1)), (0, targets(9, 1))], [1, 0, 1], 2)
    assert rows == {
        "decoder_input_tokens": [[3, 5, 6, 4, 0, 0], [3, 7, 8, 3, 9, 0]],
        "decoder_target_tokens": [[5, 6, 4, 1, 0, 0], [7, 8, 1, 9, 1, 0]],
        "decoder_loss_weights": [[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]],
        "decoder_segment_ids": [[1, 1, 1, 1, 0, 0], [1, 1, 1, 2, 2, 0]],
        "decoder_positions": [[0, 1, 2, 3, 0, 0], [0, 1, 2, 0, 1, 0]],
        "source_ids": [[2, 2, 2, 2, -1, -1], [0, 0, 0, 0, 0, -1]],
    }


def test_padding_id_and_dtypes():
    placed = [Placed(targets(7), 0)]
    arrays = assemble_rows(placed, np.array([0]), 2, CAUSAL_LM, {"decoder": 3}, SpecialIds(pad=9, start=9))
    assert arrays["decoder_target_tokens"].tolist() == [[7, 9, 9], [9, 9, 9]]
    assert arrays["decoder_input_tokens"].tolist() == [[9, 9, 9], [9, 9, 9]]
    for name, array in arrays.items():
        assert array.dtype == (np.float32 if name == "decoder_loss_weights" else np.int32)


def test_given_fields_and_fills_mix():
    weighted = targets(5, 6, 1, decoder_loss_weights=np.array([0, 1, 0.5], np.float32))
    prefix = targets(8, 1, decoder_causal_attention=np.array([1, 0], np.int32))
    rows = assemble([(0, weighted), (0, prefix)], [0, 0], 1, PREFIX_LM_BIDIRECTIONAL)
    assert rows["decoder_loss_weights"] == [[0, 1, 0.5, 1, 1, 0]]
    assert rows["decoder_causal_attention"] == [[0, 0, 0, 1, 0, 0]]


def test_two_sides():
    """An encoder-decoder spec: each side has its own length, and a segment needs room on both."""
    spec = BatchSpec(
        (
            Field("encoder_input_tokens", "encoder"),
            Field("encoder_segment_ids", "encoder", "segment_ids"),
            Field("decoder_input_tokens", "decoder", "shifted"),
            Field("decoder_target_tokens", "decoder"),
            Field("decoder_segment_ids", "decoder", "segment_ids"),
        )
    )
    segments = [
        {"encoder_input_tokens": np.arange(4), **targets(9)},
        {"encoder_input_tokens": np.arange(10, 12), **targets(8, 7)},
        {"encoder_input_tokens": np.zeros(0, int), **targets(6, 5)},
    ]
    sizes = np.array([segment_lengths(segment, spec) for segment in segments])
    assert sizes.tolist() == [[4, 1], [2, 2], [0, 2]]
    row_of = assign_rows(sizes, [6, 3], 2)
    assert row_of.tolist() == [0, 0, 1]
    placed = [Placed(segment, 0) for segment in segments]
    rows = assemble_rows(placed, row_of, 2, spec, {"encoder": 6, "decoder": 3}, SpecialIds(0, 1))
    assert rows["encoder_input_tokens"].tolist() == [[0, 1, 2, 3, 10, 11], [0] * 6]
    assert rows["encoder_segment_ids"].tolist() == [[1, 1, 1, 1, 2, 2], [0] * 6]
    assert rows["decoder_input_tokens"].tolist() == [[1, 1, 8], [1, 6, 0]]
    assert rows["decoder_segment_ids"].tolist() == [[1, 2, 2], [1, 1, 0]]


def test_left_over_segments_come_first():
    sizes = np.array([[2], [9], [9]])
    assert assign_rows(sizes, [10], 2).tolist() == [-1, 0, 1]
    assert assign_rows(sizes, [10], 2, first=1).tolist() == [0, 1, -1]


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    rows=st.integers(1, 8),
    first=st.integers(0, 3),
)
def test_every_token_once_in_order_within_its_row(sizes, rows, first):
    row_of = assign_rows(np.array(sizes)[:, None], [12], rows, first=min(first, len(sizes)))
    assert (row_of[: min(first, rows, len(sizes))] >= 0).all()  # what was left over never starves
    free = [12 - sum(size for size, row in zip(sizes, row_of) if row == index) for index in range(rows)]
    assert min(free) >= 0
    assert all(size > max(free) for size, row in zip(sizes, row_of) if row < 0)  # only what fits nowhere is left

    here = np.flatnonzero(row_of >= 0)
    segments = {int(i): (100 * i + np.arange(sizes[i])).astype(np.int32) for i in here}
    placed = [Placed({"decoder_target_tokens": segments[int(i)]}, int(i) % 3) for i in here]
    arrays = assemble_rows(placed, row_of[here], rows, CAUSAL_LM, {"decoder": 12}, SpecialIds(-7, -3))
    seen = []
    for row in range(rows):
        row_arrays = {name: array[row] for name, array in arrays.items()}
        segment_ids = row_arrays["decoder_segment_ids"]
        count = int(segment_ids.max())
        assert segment_ids.tolist() == sorted(segment_ids[segment_ids > 0].tolist()) + [0] * int(
            (segment_ids == 0).sum()
        )
        for number in range(1, count + 1):
            mask = segment_ids == number
            tokens = row_arrays["decoder_target_tokens"][mask].tolist()
            index = tokens[0] // 100
            seen.append(index)
            assert tokens == segments[index].tolist()
            assert row_arrays["decoder_input_tokens"][mask].tolist() == [-3, *tokens[:-1]]
            assert row_arrays["decoder_positions"][mask].tolist() == list(range(len(tokens)))
            assert set(row_arrays["source_ids"][mask].tolist()) == {index % 3}
            assert row_arrays["decoder_loss_weights"][mask].all()
        padding = segment_ids == 0
        assert (row_arrays["decoder_target_tokens"][padding] == -7).all()
        assert (row_arrays["source_ids"][padding] == -1).all()
        assert not row_arrays["decoder_loss_weights"][padding].any()
    assert sorted(seen) == here.tolist()


def test_a_segment_of_unequal_fields_is_an_objectives_mistake():
    with pytest.raises(AssertionError, match="lengths"):
        segment_lengths(targets(1, 2, decoder_loss_weights=np.ones(3, np.float32)), CAUSAL_LM)
