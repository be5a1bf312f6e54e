import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import PreferencePairs
from t5x_style.errors import UserError
from tests.data.objectives.make import check_counts, fields, ids_of, pieces

ENDED = ids_of(append_eos=frozenset({"chosen", "rejected"}))


def of(prompt, chosen, rejected, length, ids=ENDED):
    (piece,) = pieces(PreferencePairs(), length, ids=ids, prompt=[prompt], chosen=[chosen], rejected=[rejected])
    return piece


def test_the_row_of_the_loss():
    """The worked row of losses/dpo.py."""
    plain = ids_of()
    found = [fields(of([7], [8, 9], [4], 12, plain)), fields(of([5, 6], [1], [2], 12, plain))]
    tokens = [token for piece in found for token in piece["decoder_target_tokens"]]
    assert tokens == [7, 8, 9, 7, 4, 5, 6, 1, 5, 6, 2]
    weights = [weight for piece in found for weight in piece["decoder_loss_weights"]]
    assert weights == [0, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1]
    parts = [part for piece in found for part in piece["decoder_parts"]]
    assert np.repeat(np.arange(1, 5), parts).tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4]


def test_answers_end_as_their_tasks_want():
    piece = of([5, 6], [7], [8, 9], 20)
    assert fields(piece) == {
        "decoder_target_tokens": [5, 6, 7, 1, 5, 6, 8, 9, 1],
        "decoder_loss_weights": [0, 0, 1, 1, 0, 0, 1, 1, 1],
        "decoder_parts": [4, 5],
    }
    assert (piece.raw, piece.cut) == (5, 0)  # a prompt counts once


@pytest.mark.parametrize(
    ("length", "tokens", "parts", "cut"),
    [
        (14, [5, 6, 7, 10, 1, 5, 6, 7, 20, 21, 22, 23, 24, 1], [5, 9], 0),
        (13, [6, 7, 10, 1, 6, 7, 20, 21, 22, 23, 24, 1], [4, 8], 1),
        (8, [10, 1, 20, 21, 22, 23, 24, 1], [2, 6], 3),
        (7, [10, 1, 20, 21, 22, 23, 24], [2, 5], 3),
        (6, [10, 1, 20, 21, 22, 23], [2, 4], 4),
        (3, [10, 1, 20], [2, 1], 7),
        (2, [10, 20], [1, 1], 7),
    ],
)
def test_a_pair_longer_than_a_row(length, tokens, parts, cut):
    piece = of([5, 6, 7], [10], [20, 21, 22, 23, 24], length)
    found = fields(piece)
    assert found["decoder_target_tokens"] == tokens
    assert found["decoder_parts"] == parts
    assert (piece.raw, piece.cut) == (9 - cut, cut)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 10),
    st.integers(1, 10),
    st.integers(1, 10),
    st.integers(2, 40),
    st.sampled_from([(), ("chosen", "rejected"), ("prompt", "chosen", "rejected")]),
)
def test_counts_add_up(prompt, chosen, rejected, length, ended):
    texts = [list(range(start, start + size)) for start, size in ((10, prompt), (30, chosen), (50, rejected))]
    piece = of(*texts, length, ids_of(append_eos=frozenset(ended)))
    check_counts(PreferencePairs(), [piece], prompt + chosen + rejected, length)
    found = fields(piece)
    first, second = found["decoder_parts"]
    assert first + second == len(found["decoder_target_tokens"])
    kept = {token for token in found["decoder_target_tokens"] if token != 1}
    assert piece.raw == len(kept)
    weights = np.array(found["decoder_loss_weights"])
    assert weights[:first].any()  # both answers have something to learn
    assert weights[first:].any()
    learned = [token for token, weight in zip(found["decoder_target_tokens"], weights) if weight and token != 1]
    assert all(token >= 30 for token in learned)
    assert len(learned) == sum(token >= 30 for token in kept)
    if piece.cut:
        longest = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        assert PreferencePairs().may_cut(longest, {"decoder": length})


def test_rows_hold_as_many_pairs_as_the_loss_has():
    assert PreferencePairs().spec.max_segments == 2
    assert PreferencePairs(pairs=4).spec.max_segments == 8
    assert PreferencePairs(pairs=None).spec.max_segments is None
    assert PreferencePairs().required == ("chosen", "rejected")
    assert not PreferencePairs().may_cut({"prompt": 5, "chosen": 3, "rejected": 3}, {"decoder": 20})
    assert PreferencePairs().may_cut({"prompt": None, "chosen": 3, "rejected": 3}, {"decoder": 20})
    with pytest.raises(UserError, match="pairs is 0"):
        PreferencePairs(pairs=0)
