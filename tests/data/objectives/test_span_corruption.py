import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import SpanCorruption
from t5x_style.data.objectives.noise import Runs, draw_runs, drawable, hide, noise_counts, raw_length, targets_length
from t5x_style.errors import UserError
from tests.data.objectives.make import SENTINELS, check_counts, document, fields, ids_of, pieces


def test_numbers_of_the_paper():
    assert SpanCorruption().lengths(512) == {"encoder": 512, "decoder": 114}
    assert SpanCorruption().lengths(1024) == {"encoder": 1024, "decoder": 229}
    assert raw_length(512, 114, 0.15, 3.0) == 568
    assert raw_length(1024, 229, 0.15, 3.0) == 1137
    assert raw_length(512, 512, 0.5, 3.0) == 766
    # of the denoisers of UL2: text and targets that belong to 512 inputs
    for density, span, raw, targets in [
        (0.15, 8.0, 588, 100),
        (0.5, 8.0, 908, 512),
        (0.15, 64.0, 600, 92),
        (0.5, 64.0, 1006, 512),
        (0.15, 32.0, 598, 94),
    ]:
        assert (raw_length(512, None, density, span), targets_length(512, density, span)) == (raw, targets)
    assert SpanCorruption().lengths({"encoder": 20, "decoder": 9}) == {"encoder": 20, "decoder": 9}


def test_noise_is_rounded_in_float32():
    lengths = np.arange(2, 4097)
    noise, _ = noise_counts(lengths, 0.15, 3.0)
    double = np.array([min(max(round(length * 0.15), 1), length - 1) for length in lengths.tolist()])
    assert np.count_nonzero(noise != double) == 39
    assert [int(noise_counts(length, 0.15, 3.0)[0]) for length in (190, 350, 390)] == [29, 53, 59]
    assert [round(length * 0.15) for length in (190, 350, 390)] == [28, 52, 58]
    assert [int(count) for count in noise_counts(568, 0.15, 3.0)] == [85, 28]


def test_worked_arrays():
    tokens = np.array([5, 6, 7, 8, 9, 10], np.int32)
    inputs, targets = hide(tokens, Runs(np.array([2, 1]), np.array([1, 2])), (99, 98, 97))
    assert inputs.tolist() == [5, 6, 99, 8, 98]
    assert targets.tolist() == [99, 7, 98, 9, 10]
    assert inputs.dtype == targets.dtype == np.int32


def test_full_rows_from_568_tokens():
    found = pieces(SpanCorruption(), 512, targets=[document(568 * 2 + 7)])
    assert [piece.raw for piece in found] == [568, 568, 7]
    assert {len(piece.fields["encoder_input_tokens"]) for piece in found[:2]} == {512}
    assert {len(piece.fields["decoder_target_tokens"]) for piece in found[:2]} == {114}
    inputs, targets = (found[0].fields[name] for name in ("encoder_input_tokens", "decoder_target_tokens"))
    assert inputs[-1] == targets[-1] == 1
    assert [token for token in inputs if token > 899] == list(SENTINELS[:28])
    assert [token for token in targets if token > 899] == list(SENTINELS[:28])
    assert inputs[-2] == SENTINELS[27]  # ends with noise
    assert inputs[0] < 900  # begins with text
    assert targets[-2] < 900  # no closing sentinel


def test_edges():
    assert pieces(SpanCorruption(), 512, targets=[[]]) == []
    (one,) = pieces(SpanCorruption(), 512, targets=[[7]])
    assert fields(one) == {"encoder_input_tokens": [7, 1], "decoder_target_tokens": [999, 1]}
    (two,) = pieces(SpanCorruption(), 512, targets=[[7, 8]])
    assert fields(two) == {"encoder_input_tokens": [7, 999, 1], "decoder_target_tokens": [999, 8, 1]}
    (plain,) = pieces(SpanCorruption(), 512, targets=[[7, 8]], ids=ids_of(eos=None))
    assert fields(plain) == {"encoder_input_tokens": [7, 999], "decoder_target_tokens": [999, 8]}
    assert len(pieces(SpanCorruption(), 512, targets=[document(568)])) == 1
    assert not SpanCorruption().may_cut({"targets": None}, {"encoder": 512, "decoder": 114})


def restored(inputs, targets):
    """The document, from both sides of a piece."""
    answers, held = {}, None
    for token in targets.tolist():
        if token > 899:
            held = answers.setdefault(token, [])
        elif token != 1:
            held.append(token)
    found = []
    for token in inputs.tolist():
        found += answers[token] if token > 899 else [] if token == 1 else [token]
    return found


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(8, 128),
    st.sampled_from([(0.15, 3.0), (0.5, 3.0), (0.5, 8.0), (0.15, 64.0), (0.3, 1.0)]),
    st.sampled_from([None, 24, 9]),
)
def test_both_sides_make_the_document(size, length, noise, decoder):
    objective = SpanCorruption(noise_density=noise[0], mean_span=noise[1])
    rows = length if decoder is None else {"encoder": length, "decoder": decoder}
    tokens = document(size, seed=size)
    found = pieces(objective, rows, seed=size, targets=[tokens])
    check_counts(objective, found, size, rows)
    assert [
        token
        for piece in found
        for token in restored(piece.fields["encoder_input_tokens"], piece.fields["decoder_target_tokens"])
    ] == tokens.tolist()
    # all but the last are as long as the rows allow
    raw = raw_length(*objective.lengths(rows).values(), *noise)
    assert {piece.raw for piece in found[:-1]} <= {raw}


def test_all_ways_to_cut_are_equally_likely():
    rng = np.random.default_rng(0)
    # 6 of 12 tokens in 3 spans: C(5, 2) = 10 ways for the noise, 10 for the text, independent of each other
    draws = 10_000
    found = Counter()
    for _ in range(draws):
        text, noise = draw_runs(12, 0.5, 2.0, rng)
        assert text.sum() == noise.sum() == 6
        found[*text.tolist(), *noise.tolist()] += 1
    assert len(found) == math.comb(5, 2) ** 2
    expected = draws / 100
    chi_square = sum((count - expected) ** 2 / expected for count in found.values())
    assert 57 < chi_square < 152  # .9995 of chi square with 99 degrees of freedom, both ends


def test_refusals():
    lengths = {"encoder": 512, "decoder": 512}
    SpanCorruption(noise_density=0.5, mean_span=8.0).check(lengths, ids_of())
    with pytest.raises(UserError, match=r"hides 128 spans in 766 tokens, and the vocabulary has 100 sentinels"):
        SpanCorruption(noise_density=0.5).check(lengths, ids_of())
    with pytest.raises(UserError, match="cache again with a vocabulary that has extra_ids"):
        SpanCorruption().check(lengths, ids_of(sentinels=()))
    assert not drawable(3, 0.8, 1.0)  # two spans of noise and one token of text
    with pytest.raises(UserError, match="more spans than there are tokens"):
        SpanCorruption(noise_density=0.8, mean_span=1.0).check(lengths, ids_of())
    with pytest.raises(UserError, match="none can be hidden"):
        SpanCorruption().check({"encoder": 2, "decoder": 2}, ids_of())
    for options in ({"noise_density": 0.0}, {"noise_density": 1.0}, {"mean_span": 0.5}):
        with pytest.raises(UserError):
            SpanCorruption(**options)
