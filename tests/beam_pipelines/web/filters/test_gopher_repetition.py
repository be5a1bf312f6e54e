"""Repetition rules against slow definitions written out in strings."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.text import repeated_ngrams
from beam_pipelines.text.repeated_ngrams import RepeatedNgrams
from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.filters.gopher_repetition import GopherRepetition, duplicates, paragraphs
from t5x_style.errors import UserError

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d", "ee"]), max_size=80) | st.lists(
    st.sampled_from(["a", "b"]), max_size=80
)
# Few distinct words in long runs, then again: every n-gram up to 10 repeats.
RUNS = st.lists(st.sampled_from(["a", "b c d e f g h i j k l", "b c d e f", "x y z"]), max_size=15).map(
    lambda runs: " ".join(runs).split()
)


def document(text: str) -> Document:
    return Document("0" * 32, text, "", "", "", "en", 1.0, "{}")


def judge(text, rules=None):
    return (rules or GopherRepetition()).judge(document(text))


def distinct(count, start=0):
    return " ".join(f"word{start + index}" for index in range(count))


@pytest.mark.parametrize(
    ("parts", "later", "every"),
    [
        ([], (0.0, 0), (0.0, 0)),
        (["a", "b", "a", "a"], (0.5, 2), (0.75, 3)),
        (["long line", "long line"], (0.5, 9), (1.0, 18)),
    ],
)
def test_duplicates(parts, later, every):
    assert duplicates(parts) == later
    assert duplicates(parts, every=True) == every


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("\n\n \n\n", []),
        ("a\nb\n\n\n c \n", ["a\nb", "c"]),
        ("a\n\n\n\nb", ["a", "b"]),
        ("a\n \nb", ["a\n \nb"]),
    ],
)
def test_paragraphs(text, parts):
    assert paragraphs(text) == parts


def naive_top(words, n):
    grams = [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    return most * len(next(gram for gram in grams if counts[gram] == most)) if most > 1 else 0


def naive_later(words, n):
    seen, position, characters = set(), 0, 0
    while position + n <= len(words):
        gram = tuple(words[position : position + n])
        if gram in seen:
            characters += sum(map(len, gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    return characters


def naive_every(words, n):
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    inside = set()
    for start in range(len(words) - n + 1):
        if counts[tuple(words[start : start + n])] > 1:
            inside.update(range(start, start + n))
    return sum(len(words[index]) for index in inside)


@pytest.mark.parametrize(
    "constants",
    [{}, {"_FEW": 0}, {"_FEW": 7}, {"_FEW": 0, "_KEY_BITS": 0}],  # the last as for texts of over two million words
)
@settings(max_examples=150, deadline=None)
@given(words=WORDS | RUNS)
def test_ngrams_are_the_naive_ones(constants, words):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(repeated_ngrams, name, value)
        ngrams = RepeatedNgrams(words)
        for n in range(2, 11):
            assert ngrams.top_characters(n) == naive_top(words, n)
            assert ngrams.duplicate_characters(n) == naive_later(words, n)
            assert ngrams.duplicate_characters(n, every=True) == naive_every(words, n)


def test_a_long_text():
    words = " ".join(distinct(7 + index % 50) for index in range(200)).split()
    ngrams = RepeatedNgrams(words)
    for n in (2, 5, 10):
        assert ngrams.top_characters(n) == naive_top(words, n)
        assert ngrams.duplicate_characters(n) == naive_later(words, n)


def test_the_order_of_the_questions_does_not_matter():
    words = (distinct(12) + " " + distinct(12)).split()
    ngrams = RepeatedNgrams(words)
    assert ngrams.duplicate_characters(10) == naive_later(words, 10) > 0
    assert ngrams.top_characters(2) == naive_top(words, 2)


def test_a_clean_text_is_kept_however_short():
    assert judge("one two three four") == KEEP  # one 4-gram is the whole text, but repeats nothing
    assert judge(distinct(500)) == KEEP


@pytest.mark.parametrize("text", ["", " \n\n ", "\x00", "\ud800", "我们今天去了河边", "word", "a b", "x" * 2_000_000])
def test_odd_texts_are_kept(text):
    assert judge(text) == KEEP


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join([distinct(5, 5 * index) for index in range(7)] + ["x", "x", "x"]), ""),  # 2 of 10 lines
        ("\n".join([distinct(5, 5 * index) for index in range(6)] + ["x"] * 4), ""),  # 3 of 10 is kept
        ("\n".join([distinct(5, 5 * index) for index in range(5)] + ["x"] * 5), "duplicate_lines_high"),
        ("\n".join([distinct(5, 5 * index) for index in range(5)] + ["x", " x", "x "] * 2), "duplicate_lines_high"),
        ("\n\n".join([distinct(9)] * 2), "duplicate_lines_high"),  # half
        (
            "\n".join([distinct(5), distinct(5, 10), distinct(5, 20), *[distinct(20, 100)] * 2]),
            "duplicate_line_characters_high",
        ),
        (" ".join(["the cat"] * 10) + " " + distinct(40), "top_2_gram_high"),
        (distinct(60) + " " + distinct(20), "duplicate_5_gram_high"),
    ],
)
def test_rules(text, reason):
    verdict = judge(text)
    assert verdict.reason == reason
    if reason:
        assert verdict.value > verdict.threshold


def test_paragraph_rules():
    rules = GopherRepetition(max_duplicate_lines=1.0, max_duplicate_line_characters=1.0)
    parts = [distinct(5, 5 * index) for index in range(6)]
    assert judge("\n\n".join(parts + ["x"] * 4), rules) == KEEP
    assert judge("\n\n".join(parts + ["x"] * 5), rules).reason == "duplicate_paragraphs_high"
    verdict = judge("\n\n".join([*parts, *[distinct(20, 100)] * 2]), rules)
    assert verdict.reason == "duplicate_paragraph_characters_high"


def test_exactly_at_the_threshold():
    # 20 words of 1 character and 19 spaces; "a b" twice: 2 * 3 of 39 characters.
    text = "a b " * 2 + " ".join("cdefghijklmnopqr")
    share = 2 * 3 / 39
    at = GopherRepetition(max_top_ngram_characters=[[2, share]], max_duplicate_ngram_characters=[])
    below = GopherRepetition(max_top_ngram_characters=[[2, share - 1e-9]], max_duplicate_ngram_characters=[])
    assert judge(text, at) == KEEP
    assert judge(text, below) == ("top_2_gram_high", share, share - 1e-9)


def test_kept_documents_give_every_signal():
    measures = GopherRepetition().apply(document(distinct(30))).measures
    signals = [measure.signal for measure in measures]
    assert signals[:4] == [
        "duplicate_lines",
        "duplicate_paragraphs",
        "duplicate_line_characters",
        "duplicate_paragraph_characters",
    ]
    assert signals[4:] == [f"top_{n}_gram" for n in (2, 3, 4)] + [f"duplicate_{n}_gram" for n in range(5, 11)]
    assert all(measure.value == 0 for measure in measures)


def test_counting_every_occurrence_is_stricter():
    text = "\n".join([distinct(5, 5 * index) for index in range(8)] + ["abcd"] * 3)  # 2 later of 11, 3 of 11
    rules = {"max_duplicate_lines": 0.2, "max_duplicate_line_characters": 1.0}
    assert judge(text, GopherRepetition(**rules)) == KEEP
    assert judge(text, GopherRepetition(**rules, counting="every")).reason == "duplicate_lines_high"


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"counting": "first"}, "counting"),
        ({"max_duplicate_lines": 30}, "max_duplicate_lines"),
        ({"max_top_ngram_characters": [(1, 0.2)]}, "max_top_ngram_characters"),
        ({"max_duplicate_ngram_characters": [(5, 0.1, 3)]}, "max_duplicate_ngram_characters"),
    ],
)
def test_impossible_parameters_are_refused(parameters, names):
    with pytest.raises(UserError, match=names):
        GopherRepetition(**parameters)
