import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import UL2, Denoiser
from t5x_style.data.objectives.ul2 import SEVEN
from t5x_style.errors import UserError
from tests.data.objectives.make import check_counts, document, fields, ids_of, pieces
from tests.data.objectives.test_span_corruption import restored

ROWS = {"encoder": 1024, "decoder": 640}
SHORT = UL2(piece_lengths={"encoder": 512, "decoder": 512}, spans="cap")


def test_worked_arrays():
    (end,) = pieces(UL2(denoisers=(Denoiser(0.33, mode="[S2S]", prefix=True),)), 16, targets=[[5, 6, 7, 8, 9, 10]])
    assert fields(end) == {"encoder_input_tokens": [92, 5, 6, 7, 8, 1], "decoder_target_tokens": [9, 10, 1]}
    objective = UL2(denoisers=(Denoiser(0.5, 2.0, "[NLU]"),))
    seen = [fields(pieces(objective, 16, seed=seed, targets=[[5, 6, 7, 8, 9, 10]])[0]) for seed in range(40)]
    assert {
        "encoder_input_tokens": [90, 5, 6, 999, 7, 998, 1],
        "decoder_target_tokens": [999, 8, 998, 9, 10, 1],
    } not in seen  # the order of the tokens stays
    assert {
        "encoder_input_tokens": [90, 5, 6, 999, 8, 998, 1],
        "decoder_target_tokens": [999, 7, 998, 9, 10, 1],
    } in seen
    # one token hides nothing, in whatever way
    (one,) = pieces(UL2(denoisers=(Denoiser(0.25, prefix=True),)), 16, targets=[[7]])
    assert fields(one) == {"encoder_input_tokens": [7, 1], "decoder_target_tokens": [999, 1]}
    assert pieces(UL2(), 512, targets=[[]]) == []


def test_each_denoiser_fills_the_row_with_its_own_length():
    raws = SHORT._raws(ROWS, ids_of())
    # 511 beside the mode token; .5 in spans of 3 is capped by 100 sentinels; of the last 170 are the end
    assert raws == [567, 587, 602, 906, 599, 1004, 680]
    for denoiser, raw in zip(SEVEN, raws):
        objective = UL2(denoisers=(denoiser,), piece_lengths=SHORT.piece_lengths, spans="cap")
        first, second = pieces(objective, ROWS, targets=[document(raw + 5)])
        assert (first.raw, second.raw) == (raw, 5)
        full = len(first.fields["encoder_input_tokens"])
        assert full == (512 if denoiser.mean_span > 3 or denoiser.noise_density < 0.5 else 403)
        assert first.fields["encoder_input_tokens"][0] == ids_of().named[denoiser.mode]


def test_denoisers_are_drawn_by_weight():
    rng = np.random.default_rng(0)
    draws = 7000
    # two tokens each: 1 hidden; told apart by their modes
    found = pieces(UL2(), 512, rng=rng, targets=[[5, 6]] * draws)
    modes = np.array([piece.fields["encoder_input_tokens"][0] for piece in found])
    counts = [np.count_nonzero(modes == mode) for mode in (90, 91, 92)]
    for count, share in zip(counts, (2 / 7, 4 / 7, 1 / 7)):
        assert abs(count - draws * share) < 4 * np.sqrt(draws * share * (1 - share))
    weighted = UL2(denoisers=(Denoiser(0.15, mode="[NLU]", weight=4.0), Denoiser(0.25, mode="[S2S]", prefix=True)))
    found = pieces(weighted, 512, rng=rng, targets=[[5, 6]] * draws)
    count = sum(int(piece.fields["encoder_input_tokens"][0]) == 92 for piece in found)
    assert abs(count - draws / 5) < 4 * np.sqrt(draws * 0.2 * 0.8)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 2500), st.integers(0, 1000))
def test_pieces_make_the_document(size, seed):
    tokens = document(size, seed=seed)
    found = pieces(SHORT, ROWS, seed=seed, targets=[tokens])
    check_counts(SHORT, found, size, ROWS)
    text = []
    for piece in found:
        inputs, targets = piece.fields["encoder_input_tokens"], piece.fields["decoder_target_tokens"]
        assert max(len(inputs), len(targets)) <= 512
        if inputs[0] == 92 and targets[0] < 900:
            text += [*inputs[1:-1].tolist(), *targets[:-1].tolist()]
        else:
            text += restored(inputs[1:], targets)
    assert text == tokens.tolist()


def test_refusals():
    with pytest.raises(UserError, match=r"hides 127 spans in 765 tokens.*100 sentinels; set UL2.spans='cap'"):
        UL2().check({"encoder": 512, "decoder": 512}, ids_of())
    UL2(spans="cap").check({"encoder": 512, "decoder": 512}, ids_of())
    UL2().check({"encoder": 512, "decoder": 512}, ids_of(sentinels=tuple(range(800, 673, -1))))
    with pytest.raises(UserError, match=r"no special token \[NLU\]; cache again"):
        SHORT.check(ROWS, ids_of(named={}))
    with pytest.raises(UserError, match="extra_ids"):
        SHORT.check(ROWS, ids_of(sentinels=()))
    with pytest.raises(UserError, match="512 for the encoder, whose rows are 256"):
        SHORT.check({"encoder": 256, "decoder": 640}, ids_of())
    with pytest.raises(UserError, match="of which none can be hidden"):
        UL2().check({"encoder": 3, "decoder": 3}, ids_of())
    for options in ({"denoisers": ()}, {"spans": "wrap"}, {"piece_lengths": {"encoder": 512}}):
        with pytest.raises(UserError):
            UL2(**options)
    with pytest.raises(UserError, match="weight"):
        Denoiser(0.15, weight=0)
