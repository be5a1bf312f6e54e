import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import Seq2Seq, SpanCorruption
from tests.data.objectives.make import check_counts, fields, ids_of, pieces

ENDED = ids_of(append_eos=frozenset({"inputs", "targets"}))
ROWS = {"encoder": 3, "decoder": 2}


def of(inputs, targets, rows, ids=ENDED):
    (piece,) = pieces(Seq2Seq(), rows, ids=ids, inputs=[inputs], targets=[targets])
    return piece


def test_worked_arrays():
    piece = of([5, 6], [8], ROWS)
    assert fields(piece) == {"encoder_input_tokens": [5, 6, 1], "decoder_target_tokens": [8, 1]}
    assert (piece.raw, piece.cut) == (3, 0)
    # too long: both are cut at their end, their EOS with them
    piece = of([5, 6, 7, 8], [9, 10], ROWS)
    assert fields(piece) == {"encoder_input_tokens": [5, 6, 7], "decoder_target_tokens": [9, 10]}
    assert (piece.raw, piece.cut) == (5, 1)
    assert fields(of([5], [9], ROWS, ids_of())) == {"encoder_input_tokens": [5], "decoder_target_tokens": [9]}


@pytest.mark.parametrize(("ids", "expected"), [(ENDED, 1), (ids_of(), 1), (ids_of(eos=None, pad=7), 7)])
def test_without_inputs_there_is_something_to_see(ids, expected):
    piece = of([], [8], ROWS, ids)
    assert fields(piece)["encoder_input_tokens"] == [expected]
    assert (piece.raw, piece.cut) == (1, 0)
    assert Seq2Seq().required == ("targets",)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 9), st.integers(1, 9), st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_counts_add_up(inputs, targets, encoder, decoder, ended):
    rows = {"encoder": encoder, "decoder": decoder}
    piece = of(list(range(10, 10 + inputs)), list(range(30, 30 + targets)), rows, ENDED if ended else ids_of())
    check_counts(Seq2Seq(), [piece], inputs + targets, rows)
    assert bool(piece.cut) == Seq2Seq().may_cut({"inputs": inputs, "targets": targets}, rows)


def test_makes_the_fields_of_span_corruption():
    assert Seq2Seq().spec == SpanCorruption().spec
    assert Seq2Seq().lengths(ROWS) == SpanCorruption().lengths(ROWS) == ROWS
    assert Seq2Seq().may_cut({"inputs": None, "targets": 1}, ROWS)
