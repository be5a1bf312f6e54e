import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t5x_style.data.objectives import NextSentence
from t5x_style.data.objectives.next_sentence import fit_pair, sentence_borders
from t5x_style.errors import UserError
from tests.data.objectives.make import CLS, SENTENCE, SEP, bert_ids, check_counts
from tests.data.objectives.make import pieces as made

TARGETS, TYPES, LABELS = "encoder_target_tokens", "encoder_token_types", "encoder_next_sentence_labels"


def pieces(objective, length, targets, **options):
    return made(objective, length, targets=targets, **{"ids": bert_ids(), **options})


def sentences(*sizes, first=101):
    """A document of sentences of these lengths; the ids count up, with a multiple of 10 only at the end of each."""
    tokens, token = [], first
    for size in sizes:
        for place in range(size):
            token += 1 + (token % 10 == 9)
            tokens.append(token // 10 * 10 + 10 if place == size - 1 else token)
        token = tokens[-1] + 1
    return tokens


def texts(piece):
    tokens, types = piece.fields[TARGETS], piece.fields[TYPES]
    assert tokens[0] == CLS
    assert tokens[-1] == SEP
    second = int(np.argmax(types))
    assert tokens[second - 1] == SEP
    assert set(types[:second]) == {0}
    assert set(types[second:]) == {1}
    (label,) = set(piece.fields[LABELS].tolist())
    return tokens[1 : second - 1].tolist(), tokens[second:-1].tolist(), label


def test_worked_arrays():
    documents = [[101, 110, 111, 120], [201, 210]]
    ordered = NextSentence(random_probability=0.0, short_probability=0.0)
    first, second = pieces(ordered, 8, documents)
    found = {name: first.fields[name].tolist() for name in (TARGETS, TYPES, LABELS)}
    assert found == {
        TARGETS: [CLS, 101, 110, SEP, 111, 120, SEP],
        TYPES: [0, 0, 0, 0, 1, 1, 1],
        LABELS: [0, 0, 0, 0, 0, 0, 0],
    }
    assert (first.raw, first.cut) == (4, 0)
    # one sentence alone: the second text is another document's, and no token of this one's counts
    assert texts(second) == ([201, 210], texts(second)[1], 1)
    assert texts(second)[1] in (
        [101, 110, 111],
        [110, 111, 120],
        [111, 120],
    )
    assert (second.raw, second.cut) == (2, 0)
    # random: sentence 2 is used again
    always = NextSentence(random_probability=1.0, short_probability=0.0)
    found = [texts(piece) for piece in pieces(always, 8, documents)]
    assert [a for a, _, _ in found] == [[101, 110], [111, 120], [201, 210]]
    assert [label for _, _, label in found] == [1, 1, 1]


def test_sentences():
    assert sentence_borders(np.array([False, True, False, True]), 9).tolist() == [0, 2, 4]
    assert sentence_borders(np.array([False, True, False, False]), 9).tolist() == [0, 2, 4]
    assert sentence_borders(np.array([True]), 9).tolist() == [0, 1]
    assert sentence_borders(np.zeros(0, bool), 9).tolist() == [0]
    assert sentence_borders(np.zeros(7, bool), 3).tolist() == [0, 3, 6, 7]


def reference_fit(a, b, room, flips):
    a, b = list(a), list(b)
    while len(a) + len(b) > room:
        longer = a if len(a) > len(b) else b
        longer.pop(0) if next(flips) else longer.pop()
    return a, b


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40))
def test_pairs_are_shortened_one_token_at_a_time(a, b, room):
    first, second = np.arange(a), np.arange(100, 100 + b)
    ours = fit_pair(first, second, room, np.random.default_rng(a))
    theirs = reference_fit(first, second, room, iter(lambda: True, None))
    assert [len(text) for text in ours] == [len(text) for text in theirs]
    for text in ours:
        assert np.array_equal(np.diff(text), np.ones(len(text) - 1))


def test_what_is_lost_at_the_front():
    rng, coin = np.random.default_rng(0), random.Random(0)
    first, second = np.arange(12), np.arange(4)
    ours = np.array([fit_pair(first, second, 10, rng)[0][0] for _ in range(4000)])
    flips = iter(lambda: coin.random() < 0.5, None)
    theirs = np.array([reference_fit(first, second, 10, flips)[0][0] for _ in range(4000)])
    # binomial of 6 with .5: mean 3, variance 1.5
    assert abs(ours.mean() - 3) < 4 * np.sqrt(1.5 / 4000)
    assert abs(ours.var() - 1.5) < 0.15
    assert abs(theirs.mean() - 3) < 4 * np.sqrt(1.5 / 4000)


def test_half_are_random():
    """Of documents of many sentences: a chunk of two sentences or more is random with p .5."""
    documents = [sentences(*[4] * 60, first=101), sentences(*[4] * 40, first=101)]
    rng = np.random.default_rng(0)
    objective = NextSentence(short_probability=0.0)
    labels = []
    for _ in range(60):
        found = pieces(objective, 35, documents, rng=rng)
        labels += [texts(piece)[2] for piece in found]
    # eight sentences a chunk; at the end of a document shorter ones, of one sentence in a seventh of the cases or so
    share = np.mean(labels)
    assert 0.5 - 4 * 0.5 / np.sqrt(len(labels)) < share < 0.56
    assert len(labels) > 1000


def test_short_documents_have_short_pairs():
    documents = [sentences(*[3] * 50), sentences(*[3] * 50)]
    rng = np.random.default_rng(0)
    objective = NextSentence(short_probability=0.5)
    shortest = []
    for _ in range(500):
        found = pieces(objective, 64, documents[:2], rng=rng)
        shortest.append(len(found[0].fields[TARGETS]) < 60)
    # half the documents, of which those drawn above 54 fill the row: lengths 2 .. 61, three tokens a sentence
    assert 0.5 * 50 / 60 - 0.09 < np.mean(shortest) < 0.5 * 57 / 60 + 0.09


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 120), min_size=2, max_size=6),
    st.integers(5, 64),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.1, 1.0]),
)
def test_properties(sizes, length, seed, short):
    rng = np.random.default_rng(seed)
    documents = [rng.integers(100, 900, size).astype(np.int32) for size in sizes]
    objective = NextSentence(short_probability=short)
    found = pieces(objective, length, documents, seed=seed)
    check_counts(objective, found, sum(sizes), length)
    joined = " ".join(f"|{' '.join(map(str, tokens.tolist()))}|" for tokens in documents)
    for piece in found:
        a, b, label = texts(piece)
        assert a
        assert b
        assert piece.raw == len(a) + (0 if label else len(b))
        for text in (a, b):
            assert " ".join(map(str, text)) in joined
        if not label:
            assert piece.raw > 1
    # every document is read to its end: what no piece holds was counted, and each has a piece at least
    assert len(found) >= len(sizes)


def test_groups():
    assert NextSentence.group == 16
    assert NextSentence.least == 2
    assert NextSentence().may_cut({"targets": 1}, {"encoder": 512})
    assert np.flatnonzero(SENTENCE)[10] % 10 == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (bert_ids(ends_sentence=None), "end a sentence; cache again"),
        (bert_ids(cls=None), r"\[CLS\] and \[SEP\]"),
        (bert_ids(mask=None), "NextSentence needs a mask"),
    ],
)
def test_refusals(ids, message):
    with pytest.raises(UserError, match=message):
        NextSentence().check({"encoder": 128}, ids)
    NextSentence().check({"encoder": 128}, bert_ids())
    with pytest.raises(UserError, match="two texts"):
        NextSentence().check({"encoder": 4}, bert_ids())
    with pytest.raises(UserError, match="from 0 to 1"):
        NextSentence(random_probability=2)
