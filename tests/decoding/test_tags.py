"""Tags to spans: the best valid sequence against trying all, both schemes, sequences and labels that are not valid."""

import itertools

import numpy as np
import pytest

from t5x_style.decoding.tags import Span, best_spans, best_tags, rules, spans
from t5x_style.errors import UserError

IOBES = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "E-LOC", "S-LOC")
IOB2 = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def is_valid(tags, labels, scheme):
    """Whether a sequence of labels is what some spans give: written from the spans, not from transitions."""
    place, names = 0, [labels[tag] for tag in tags]
    while place < len(names):
        prefix, _, kind = names[place].partition("-")
        if prefix in "OS":
            place += 1
            continue
        if prefix != "B":
            return False
        end = place + 1
        while end < len(names) and names[end] == f"I-{kind}":
            end += 1
        if scheme == "iobes":
            if end == len(names) or names[end] != f"E-{kind}":
                return False
            end += 1
        place = end
    return True


@pytest.mark.parametrize(("labels", "scheme"), [(IOBES, "iobes"), (IOB2, "iob2")])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_the_best_valid_sequence_of_all(labels, scheme, length):
    valid = [tags for tags in itertools.product(range(len(labels)), repeat=length) if is_valid(tags, labels, scheme)]
    for seed in range(8):
        random = np.random.default_rng(seed)
        # halves: many sequences have equal sums, and the first of them must come back
        scores = (
            random.integers(-3, 4, (length, len(labels))) / 2 if seed % 2 else random.normal(size=(length, len(labels)))
        )
        best = max(valid, key=lambda tags: sum(scores[np.arange(length), list(tags)]))
        assert best_tags(scores, rules(labels, scheme)).tolist() == list(best)


def test_the_worked_example():
    scores = np.array([[1, 2, 0, 0, 1], [3, 0, 0, 2, 1.0]])
    assert best_tags(scores, rules(IOBES[:5])).tolist() == [0, 0]
    scores[1, 3] += 0.5
    assert best_spans(scores, IOBES[:5]) == [Span(0, 2, "PER")]


def test_transitions_of_the_example():
    allowed = rules(IOBES[:5])
    assert allowed.begin.tolist() == [True, True, False, False, True]
    assert allowed.end.tolist() == [True, False, False, True, True]
    fresh, inside = [True, True, False, False, True], [False, False, True, True, False]
    assert allowed.follow.tolist() == [fresh, inside, inside, fresh, fresh]


def test_spans_of_tags():
    names = ["B-PER", "I-PER", "E-PER", "S-LOC", "O", "S-PER"]
    ids = [IOBES.index(name) for name in names]
    assert spans(ids, IOBES) == [Span(0, 3, "PER"), Span(3, 4, "LOC"), Span(5, 6, "PER")]
    ids = [IOB2.index(name) for name in ["B-PER", "B-PER", "I-PER", "O", "B-LOC"]]
    assert spans(ids, IOB2, "iob2") == [Span(0, 1, "PER"), Span(1, 3, "PER"), Span(4, 5, "LOC")]
    assert spans([], IOBES) == []
    assert best_tags(np.zeros((0, 9)), rules(IOBES)).tolist() == []


def test_adding_a_number_to_a_tokens_scores_changes_nothing():
    scores = np.random.default_rng(3).normal(size=(6, 9))
    shifted = scores + np.random.default_rng(4).normal(size=(6, 1))
    assert best_tags(scores, rules(IOBES)).tolist() == best_tags(shifted, rules(IOBES)).tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: rules(("O", "X-PER")), "label 'X-PER' of O, X-PER is none of the scheme 'iobes': O, B-NAME, I-NAME"),
        (lambda: rules(("O", "E-PER"), "iob2"), "is none of the scheme 'iob2': O, B-NAME, I-NAME"),
        (lambda: rules(("O", "B")), "label 'B'"),
        (lambda: rules(("B-X", "E-X")), "have no O"),
        (lambda: best_tags(np.zeros((2, 4)), rules(IOBES)), r"shape \(2, 4\); give \[tokens, 9 labels\]"),
        (lambda: best_tags(np.full((2, 9), np.nan), rules(IOBES)), "hold NaN"),
        (lambda: spans([1, 0], IOBES), "O at token 1 is not valid there"),
        (lambda: spans([1], IOBES), "B-PER at token 0 is not valid there"),
        (lambda: spans([1, 7], IOBES), "E-LOC at token 1 is not valid there"),
    ],
)
def test_what_does_not_fit_is_one_line(make, message):
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)
