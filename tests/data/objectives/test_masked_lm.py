import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import MaskedLM
from t5x_style.errors import UserError
from tests.data.objectives.make import CLS, MASK, SEP, SPECIAL, WORD, bert_ids, check_counts, document, fields, ids_of
from tests.data.objectives.make import pieces as made

INPUTS, TARGETS, WEIGHTS = "encoder_input_tokens", "encoder_target_tokens", "encoder_loss_weights"


def pieces(objective, length, targets, **options):
    return made(objective, length, targets=targets, **{"ids": bert_ids(), **options})


def test_worked_arrays():
    (piece,) = pieces(MaskedLM(), 8, [[5, 6, 7, 8]])
    found = fields(piece)
    assert found[TARGETS] == [CLS, 5, 6, 7, 8, SEP]
    (place,) = np.flatnonzero(found[WEIGHTS])  # max(1, round(.9))
    assert found[INPUTS][:place] == found[TARGETS][:place]
    assert found[INPUTS][place + 1 :] == found[TARGETS][place + 1 :]
    seen = {tuple(fields(pieces(MaskedLM(), 8, [[5, 6, 7, 8]], seed=seed)[0])[INPUTS]) for seed in range(60)}
    assert (CLS, 5, MASK, 7, 8, SEP) in seen
    assert (piece.raw, piece.cut) == (4, 0)


def test_a_document_becomes_pieces():
    found = pieces(MaskedLM(), 6, [[5, 6, 7, 8, 9]])
    assert [fields(piece)[TARGETS] for piece in found] == [[CLS, 5, 6, 7, 8, SEP], [CLS, 9, SEP]]
    assert len(pieces(MaskedLM(), 6, [[5, 6, 7, 8]])) == 1
    assert pieces(MaskedLM(), 6, [[]]) == []
    # without [SEP] the document ends as its Task wants, where its EOS has room
    ids = ids_of(mask=MASK, append_eos=frozenset({"targets"}))
    found = pieces(MaskedLM(), 4, [[5, 6, 7, 8, 9], [5, 6, 7, 8]], ids=ids)
    assert [fields(piece)[TARGETS] for piece in found] == [[5, 6, 7, 8], [9, 1], [5, 6, 7, 8]]
    assert found[1].fields[WEIGHTS].tolist() == [1, 0]  # an EOS is not predicted


@pytest.mark.parametrize(
    ("length", "cap", "count"),
    [(128, 20, 19), (128, 10, 10), (510, None, 76), (512, None, 77), (3, None, 1), (30, None, 4), (50, None, 8)],
)
def test_how_many_are_chosen(length, cap, count):
    """round(.15 * length) with [CLS] and [SEP], half to even in double precision: .15 * 30 is 4.5, .15 * 50 is 7.5."""
    (piece,) = pieces(MaskedLM(max_predictions=cap), length, [document(length - 2)])
    assert len(piece.fields[WEIGHTS]) == length
    assert piece.fields[WEIGHTS].sum() == count


def test_special_tokens_are_never_chosen():
    tokens = [90, 91, 5, 999, 4]
    for seed in range(30):
        (piece,) = pieces(MaskedLM(mask_rate=0.9), 8, [tokens], seed=seed)
        assert fields(piece)[WEIGHTS] == [0, 0, 0, 1, 0, 0, 0]
    (piece,) = pieces(MaskedLM(), 8, [[90, 91]])
    assert not piece.fields[WEIGHTS].any()


def statistics(objective, draws):
    """Counts of [masked, kept, other] over chosen tokens, and of the place that is chosen, in texts of 20 ids."""
    tokens = [500 + 20] * 20
    rng = np.random.default_rng(0)
    found = pieces(objective, 22, [tokens] * draws, rng=rng)
    chosen = np.array([piece.fields[WEIGHTS] for piece in found]) > 0
    inputs = np.array([piece.fields[INPUTS] for piece in found])
    assert np.all(chosen.sum(axis=1) == 3)
    drawn = inputs[chosen]
    masked, kept = np.count_nonzero(drawn == MASK), np.count_nonzero(drawn == 520)
    return (masked, kept, len(drawn) - masked - kept), chosen.sum(axis=0), drawn[(drawn != MASK) & (drawn != 520)]


def test_80_10_10_and_even_places():
    draws = 3400  # 10,200 choices
    (masked, kept, other), places, random = statistics(MaskedLM(), draws)
    for count, share in ((masked, 0.8 + 1e-4), (kept, 0.1 + 1e-4), (other, 0.1 - 2e-4)):
        assert abs(count - 3 * draws * share) < 4 * np.sqrt(3 * draws * share * (1 - share))
    assert places[0] == places[-1] == 0
    share = 3 / 20
    assert np.all(np.abs(places[1:-1] - draws * share) < 4.5 * np.sqrt(draws * share * (1 - share)))
    # random ids are any of the vocabulary, special ones too
    assert abs(random.mean() - 499.5) < 4 * 1000 / np.sqrt(12 * len(random))
    assert SPECIAL[random].any()


def test_whole_words():
    # words of 1, 2, 3 and 1 pieces; 101, 104 and 107 continue
    tokens = np.array([100, 102, 101, 103, 104, 107, 106], np.int32)
    assert WORD[tokens].tolist() == [True, True, False, True, False, False, True]
    objective = MaskedLM(whole_word=True, mask_rate=0.25)  # 2 of 9
    draws, seen = 4000, {}
    for piece in pieces(objective, 9, [tokens] * draws, rng=np.random.default_rng(0)):
        key = tuple(np.flatnonzero(piece.fields[WEIGHTS]).tolist())
        seen[key] = seen.get(key, 0) + 1
    # the three-piece word never fits; the first of the others in a random order: the pair, or one and then the other
    assert set(seen) == {(2, 3), (1, 7)}
    assert abs(seen[2, 3] - draws / 3) < 4 * np.sqrt(draws * 2 / 9)
    # a word that continues behind a special token is a word of its own
    for seed in range(20):
        (piece,) = pieces(MaskedLM(whole_word=True), 9, [[101, 90, 104]], seed=seed)
        assert tuple(np.flatnonzero(piece.fields[WEIGHTS])) in {(1,), (3,)}


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(3, 128),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 5]),
    st.integers(0, 100),
)
def test_properties(size, length, whole_word, around, cap, seed):
    ids = bert_ids() if around else ids_of(mask=MASK, append_eos=frozenset({"targets"}))
    objective = MaskedLM(whole_word=whole_word, max_predictions=cap)
    tokens = document(size, seed)
    found = pieces(objective, length, [tokens], ids=ids, seed=seed)
    check_counts(objective, found, size, length)
    assert not any(piece.cut for piece in found)
    text = np.concatenate([piece.fields[TARGETS] for piece in found])
    assert text[~SPECIAL[text]].tolist() == tokens.tolist()
    for piece in found:
        inputs, targets, weights = (piece.fields[name] for name in (INPUTS, TARGETS, WEIGHTS))
        most = min(max(1, round(0.15 * len(targets))), cap or 999)
        chosen = weights > 0
        assert chosen.sum() <= most if whole_word else chosen.sum() == most
        assert not SPECIAL[targets[chosen]].any()
        assert np.array_equal(inputs[~chosen], targets[~chosen])


def test_copies_are_the_instance_s():
    assert MaskedLM().copies is None
    assert MaskedLM(copies=10).copies == 10


@pytest.mark.parametrize(
    ("ids", "objective", "message"),
    [
        (bert_ids(mask=None), MaskedLM(), "mask token"),
        (bert_ids(size=None), MaskedLM(), "size; cache again"),
        (bert_ids(starts_word=None), MaskedLM(whole_word=True), "start a word; cache again"),
    ],
)
def test_refusals(ids, objective, message):
    with pytest.raises(UserError, match=message):
        objective.check({"encoder": 128}, ids)
    MaskedLM(whole_word=True).check({"encoder": 128}, bert_ids())
    with pytest.raises(UserError, match="no room"):
        MaskedLM().check({"encoder": 2}, bert_ids())
    for options in ({"mask_rate": 1.5}, {"max_predictions": 0}, {"copies": 0}):
        with pytest.raises(UserError):
            MaskedLM(**options)
