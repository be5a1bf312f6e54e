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


def chosen_of(objective, tokens, draws):
    """[draws, 302] which tokens are targets: 20 of 302, so few that no single tokens are needed to make them up."""
    rows = {"encoder": 302, "targets": 20}
    found = pieces(objective, rows, [tokens] * draws, rng=np.random.default_rng(0))
    chosen = np.zeros((draws, 302), bool)
    for row, piece in zip(chosen, found):
        row[piece.fields[PLACES]] = True
    assert np.all(chosen.sum(axis=1) == 20)
    return chosen


def test_grams_have_the_lengths_of_the_release():
    """Where every token starts a word: lengths 1 .. 5 with weights 1 / n, each anywhere among the tokens around it."""
    draws = 10_000
    first = [runs(row)[0] for row in chosen_of(PermutationLM(), np.full(300, 100, np.int32), draws)]
    sizes = np.array([size for _, size in first])
    for size, share in enumerate(np.array([60, 30, 20, 15, 12]) / 137, start=1):
        assert abs(np.mean(sizes == size) - share) < 4 * np.sqrt(share / draws)
    # the place is even in 0 .. 6 n - 1
    assert abs(np.mean([begin for begin, _ in first]) - (6 * 300 / 137 - 1) / 2) < 4 * 6 / np.sqrt(draws)


def test_pieces_or_words():
    # words of three pieces: 100, 101, 104 (101 and 104 continue)
    tokens = np.tile(np.array([100, 101, 104], np.int32), 100)
    assert WORD[[100, 101, 104]].tolist() == [True, False, False]
    for spans in ("pieces", "words"):
        found = [run for row in chosen_of(PermutationLM(spans=spans), tokens, 200) for run in runs(row)[:-1]]
        assert all(begin % 3 == 0 for begin, _ in found)
        sizes = np.array([size for _, size in found])
        assert np.all(sizes % 3 == 0) if spans == "words" else set(sizes) >= {1, 2, 3, 4, 5}


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
