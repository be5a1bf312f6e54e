import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import PermutationLM
from t5x_style.errors import UserError
from t5x_style.models.permutation import permutation_inputs
from tests.data.objectives.make import CLS, SEP, SPECIAL, WORD, bert_ids, check_counts, document, ids_of
from tests.data.objectives.make import pieces as made

INPUTS, RANKS, PLACES, TARGETS = "encoder_input_tokens", "encoder_ranks", "targets_places", "targets_target_tokens"


def pieces(objective, length, targets, **options):
    return made(objective, length, targets=targets, **{"ids": bert_ids(), **options})


def test_worked_arrays():
    objective = PermutationLM(one_in=3)
    seen = set()
    for seed in range(200):
        (piece,) = pieces(objective, 6, [[5, 6, 7, 8]], seed=seed)
        assert piece.fields[INPUTS].tolist() == [5, 6, 7, 8, SEP, CLS]
        seen.add((*piece.fields[RANKS].tolist(), *piece.fields[TARGETS].tolist(), *piece.fields[PLACES].tolist()))
    assert (0, 2, 1, 0, 0, 0, 6, 7, 1, 2) in seen
    assert all(key[4:6] == (0, 0) for key in seen)  # [SEP] and [CLS] are no targets
    assert len({key[-2:] for key in seen}) == 6  # every pair of the four


@pytest.mark.parametrize("visible", [True, False])
def test_ranks_make_the_masks_of_the_model(visible):
    (piece,) = pieces(PermutationLM(visible_context=visible), 48, [document(46)])
    ranks, places = piece.fields[RANKS], piece.fields[PLACES]
    order = np.argsort(ranks, kind="stable")  # the context in any order where its tokens see each other
    mask, mapping = permutation_inputs(jnp.asarray(order)[None], jnp.asarray(places)[None], visible_context=visible)
    hidden = (ranks[None, :] >= ranks[:, None]) & (ranks[None, :] > 0)
    np.testing.assert_array_equal(np.asarray(mask)[0], hidden)
    np.testing.assert_array_equal(np.asarray(mapping)[0], places[:, None] == np.arange(48))
    np.testing.assert_array_equal(piece.fields[TARGETS], piece.fields[INPUTS][places])
    assert len(places) == 8
    assert sorted(ranks[places]) == list(range(1, 9)) if visible else sorted(ranks) == list(range(1, 49))


def test_one_in_six():
    assert PermutationLM().lengths(512) == {"encoder": 512, "targets": 85}
    assert PermutationLM().lengths({"encoder": 512, "targets": 20}) == {"encoder": 512, "targets": 20}
    (piece,) = pieces(PermutationLM(), 512, [document(510)])
    assert len(piece.fields[PLACES]) == 85
    (piece,) = pieces(PermutationLM(), {"encoder": 512, "targets": 20}, [document(510)])
    assert len(piece.fields[PLACES]) == 20
    (piece,) = pieces(PermutationLM(), 512, [[5]])
    assert piece.fields[PLACES].tolist() == [0]
    assert pieces(PermutationLM(), 512, [[]]) == []


def runs(chosen):
    """(begin, length) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], chosen.astype(int), [0]])))
    return list(zip(edges[::2].tolist(), (edges[1::2] - edges[::2]).tolist()))


def first_grams(spans, tokens, draws):
    """Length and place of the first n-gram of each draw."""
    rng = np.random.default_rng(0)
    found = pieces(PermutationLM(spans=spans), 302, [tokens] * draws, rng=rng)
    firsts = []
    for piece in found:
        chosen = np.zeros(302, bool)
        chosen[piece.fields[PLACES]] = True
        firsts.append(chosen)
    return np.array(firsts)


def test_grams_have_the_lengths_of_the_release():
    """Where every token starts a word: lengths 1 .. 5 with weights 1 / n, each at an even place of its stretch."""
    draws = 3000
    tokens = np.full(300, 100, np.int32)
    counts = np.zeros(6)
    rng = np.random.default_rng(0)
    places = []
    for piece in pieces(PermutationLM(), 302, [tokens] * draws, rng=rng):
        chosen = np.zeros(302, bool)
        chosen[piece.fields[PLACES]] = True
        begin, size = runs(chosen)[0]
        places.append(begin)
        if size < 6:
            counts[size] += 1
    # neighbours that touch, and single tokens that fill up, disturb the first run in a few per cent of the draws
    share = counts / draws
    expected = np.array([0, 60, 30, 20, 15, 12]) / 137
    assert np.abs(share - expected).max() < 0.05
    # the place of an n-gram is even in 0 .. 6 n - 1, so its mean is (6 E[n] - 1) / 2 with E[n] = 300 / 137
    assert abs(np.mean(places) - (6 * 300 / 137 - 1) / 2) < 0.8


def test_pieces_or_words():
    # words of three pieces: 100, 101, 104 (101 and 104 continue)
    tokens = np.tile(np.array([100, 101, 104], np.int32), 100)
    assert WORD[[100, 101, 104]].tolist() == [True, False, False]
    for spans in ("pieces", "words"):
        chosen = first_grams(spans, tokens, 200)
        begins = np.concatenate([[begin for begin, _ in runs(row)[:3]] for row in chosen])
        sizes = np.concatenate([[size for _, size in runs(row)[:3]] for row in chosen])
        assert np.mean(begins % 3 == 0) > 0.9  # single tokens that fill up may stand anywhere
        whole = np.mean(sizes % 3 == 0)
        assert whole > 0.9 if spans == "words" else whole < 0.5
        assert np.all(chosen.sum(axis=1) == 50)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(6, 128),
    st.sampled_from(["pieces", "words"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 100),
)
def test_properties(size, length, spans, visible, around, seed):
    objective = PermutationLM(spans=spans, visible_context=visible)
    ids = bert_ids() if around else ids_of(append_eos=frozenset({"targets"}))
    tokens = document(size, seed)
    found = pieces(objective, length, [tokens], ids=ids, seed=seed)
    check_counts(objective, found, size, length)
    text = np.concatenate([piece.fields[INPUTS] for piece in found])
    assert text[~SPECIAL[text]].tolist() == tokens.tolist()
    for piece in found:
        places = piece.fields[PLACES]
        assert len(places) == max(len(piece.fields[INPUTS]) // 6, 1)
        assert np.all(np.diff(places) > 0)
        assert not SPECIAL[piece.fields[TARGETS]].any()
        ranks = piece.fields[RANKS]
        assert ranks[places].min() > ranks[np.setdiff1d(np.arange(len(ranks)), places)].max(initial=0)


def test_refusals():
    with pytest.raises(UserError, match="start a word; cache again"):
        PermutationLM().check({"encoder": 512, "targets": 85}, bert_ids(starts_word=None))
    with pytest.raises(UserError, match="no text beside"):
        PermutationLM().check({"encoder": 2, "targets": 1}, bert_ids())
    PermutationLM().check({"encoder": 512, "targets": 85}, bert_ids())
    for options in ({"one_in": 0}, {"spans": "letters"}):
        with pytest.raises(UserError):
            PermutationLM(**options)
