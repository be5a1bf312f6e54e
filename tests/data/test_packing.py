import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.batches import CAUSAL_LM, PREFIX_LM_BIDIRECTIONAL, BatchSpec, Field
from t5x_style.data.packing import Given, assemble_rows, assign_rows, place
from t5x_style.errors import UserError


def targets(*values, **more):
    return {"decoder_target_tokens": np.array(values, np.int32), **more}


def assemble(pieces, row_of, rows, spec=CAUSAL_LM, lengths=6, pad=0, start=3, isolate=True):
    placed = [place(fields, Given.of(spec), source, start) for source, fields in pieces]
    lengths = lengths if isinstance(lengths, dict) else {"decoder": lengths}
    arrays = assemble_rows(placed, np.array(row_of), rows, spec, lengths, pad, isolate)
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
    placed = [place(targets(7), Given.of(CAUSAL_LM), 0, 9)]
    arrays = assemble_rows(placed, np.array([0]), 2, CAUSAL_LM, {"decoder": 3}, pad=9)
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
    placed = [place(segment, Given.of(spec), 0, 1) for segment in segments]
    sizes = np.array([piece.sizes for piece in placed])
    assert sizes.tolist() == [[4, 1], [2, 2], [0, 2]]
    row_of = assign_rows(sizes, [6, 3], 2)
    assert row_of.tolist() == [0, 0, 1]
    rows = assemble_rows(placed, row_of, 2, spec, {"encoder": 6, "decoder": 3}, 0)
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
    given_ = Given.of(CAUSAL_LM)
    placed = [place({"decoder_target_tokens": segments[int(i)]}, given_, int(i) % 3, -3) for i in here]
    arrays = assemble_rows(placed, row_of[here], rows, CAUSAL_LM, {"decoder": 12}, -7)
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


PAIRS_SPEC = BatchSpec((*CAUSAL_LM.fields, Field("decoder_piece_ids", "decoder", "piece_ids")))
PAIR = targets(7, 8, 7, 9, 4, decoder_parts=np.array([2, 3]))


def test_parts_are_segments_that_share_a_row():
    rows = assemble([(0, targets(5, 6)), (1, PAIR)], [0, 0], 1, PAIRS_SPEC, 8)
    assert rows["decoder_target_tokens"] == [[5, 6, 7, 8, 7, 9, 4, 0]]
    assert rows["decoder_input_tokens"] == [[3, 5, 3, 7, 3, 7, 9, 0]]
    assert rows["decoder_segment_ids"] == [[1, 1, 2, 2, 3, 3, 3, 0]]
    assert rows["decoder_piece_ids"] == [[1, 1, 2, 2, 2, 2, 2, 0]]
    assert rows["decoder_positions"] == [[0, 1, 0, 1, 0, 1, 2, 0]]
    assert rows["source_ids"] == [[0, 0, 1, 1, 1, 1, 1, -1]]


def test_a_row_of_one_segment():
    """isolate=False: what GPT trains on, the last token of a document being the input of the next one's first."""
    rows = assemble([(0, targets(5, 6)), (1, PAIR), (0, targets(9))], [0, 0, 1], 2, PAIRS_SPEC, 8, isolate=False)
    assert rows["decoder_input_tokens"] == [[3, 5, 6, 7, 8, 7, 9, 0], [3] + [0] * 7]
    assert rows["decoder_segment_ids"] == [[1] * 7 + [0], [1] + [0] * 7]
    assert rows["decoder_positions"] == [[0, 1, 2, 3, 4, 5, 6, 0], [0] * 8]
    assert rows["decoder_piece_ids"] == [[1, 1, 2, 2, 2, 2, 2, 0], [1] + [0] * 7]


def test_trailing_dimensions_and_empty_sides():
    """Two positions a token, as GLM has them, and a side of patches that only the second segment has."""
    spec = BatchSpec(
        (
            Field("decoder_target_tokens", "decoder"),
            Field("decoder_positions", "decoder", trailing=(2,)),
            Field("decoder_segment_ids", "decoder", "segment_ids"),
            Field("image_patches", "image", dtype=np.float32, padding=-1.0, trailing=(2, 1)),
            Field("image_segment_ids", "image", "segment_ids"),
            Field("decoder_image_places", "decoder", "index", into="image", padding=-1),
        )
    )
    places = {"decoder_image_places": np.array([-1, -1])}
    first = targets(5, 6, decoder_positions=np.array([[0, 0], [1, 0]]), **places)
    second = targets(
        7,
        decoder_positions=np.array([[1, 2]]),
        decoder_image_places=np.array([1]),
        image_patches=np.arange(4.0).reshape(2, 2, 1),
    )
    third = {**second, "image_patches": np.arange(2.0).reshape(1, 2, 1), "decoder_image_places": np.array([0])}
    rows = assemble([(0, first), (0, second), (0, third)], [0, 0, 0], 1, spec, {"decoder": 5, "image": 4})
    assert rows["decoder_positions"] == [[[0, 0], [1, 0], [1, 2], [1, 2], [0, 0]]]
    assert rows["decoder_segment_ids"] == [[1, 1, 2, 3, 0]]
    assert rows["image_segment_ids"] == [[2, 2, 3, 0]]  # a segment has the same number on every side
    assert rows["image_patches"] == [[[[0.0], [1.0]], [[2.0], [3.0]], [[0.0], [1.0]], [[-1.0], [-1.0]]]]
    assert rows["decoder_image_places"] == [[-1, -1, 1, 2, -1]]  # the third's patch 0 is the row's patch 2


def test_a_shifted_field_may_be_given():
    own = targets(5, 6, decoder_input_tokens=np.array([8, 5], np.int32))
    rows = assemble([(0, targets(7, 4)), (0, own)], [0, 0], 1)
    assert rows["decoder_input_tokens"] == [[3, 7, 8, 5, 0, 0]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (targets(1, 2, decoder_loss_weights=np.ones(3, np.float32)), "has 3 tokens, another field of its side 2"),
        (targets(1, 2, decoder_segment_ids=np.ones(2)), "gives 'decoder_segment_ids', which"),
        (targets(1, 2, decoder_parts=np.array([1, 2])), "do not add up"),
        (targets(1, 2, encoder_parts=np.array([2])), "gives 'encoder_parts', which"),
    ],
)
def test_an_objectives_mistakes(fields, message):
    with pytest.raises(UserError, match=message):
        place(fields, Given.of(CAUSAL_LM), 0, 3)


def test_a_field_that_no_objective_gives():
    spec = BatchSpec((*CAUSAL_LM.fields, Field("decoder_labels", "decoder")))
    with pytest.raises(UserError, match="gives no decoder_labels"):
        assemble([(0, targets(1))], [0], 1, spec)
    with pytest.raises(UserError, match="gives no decoder_labels for a piece"):
        assemble([(0, targets(1, decoder_labels=np.array([4]))), (0, targets(2))], [0, 0], 1, spec)
