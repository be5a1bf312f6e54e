"""Repetition rules against slow definitions written out in strings."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.web.gopher_repetition import GopherRepetition, Ngrams, duplicates
from beam_pipelines.web.words import split_words

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d", "ee"]), max_size=60)


def judge(text, rules=None):
    return (rules or GopherRepetition()).judge(text, split_words(text))


def distinct(count, start=0):
    return " ".join(f"word{start + index}" for index in range(count))


@pytest.mark.parametrize(
    ("parts", "later", "every"),
    [
        ([], (0.0, 0), (0.0, 0)),
        (["a", "b", "a", "a"], (0.5, 2), (0.75, 3)),
        (["", " ", "", "x"], (0.0, 0), (0.0, 0)),  # blank lines are no duplicates
        (["long line", "long line"], (0.5, 9), (1.0, 18)),
    ],
)
def test_duplicates(parts, later, every):
    assert duplicates(parts) == later
    assert duplicates(parts, every=True) == every


@settings(max_examples=200, deadline=None)
@given(WORDS, st.integers(2, 10))
def test_top_ngram_is_the_naive_one(words, n):
    grams = [" ".join(words[start : start + n]) for start in range(len(words) - n + 1)]
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    expected = 0
    if most > 1:
        expected = most * len(next(gram for gram in grams if counts[gram] == most))
    assert Ngrams(words).top_characters(n) == expected


@settings(max_examples=200, deadline=None)
@given(WORDS, st.integers(2, 10))
def test_later_occurrences_are_the_naive_ones(words, n):
    seen, position, expected = set(), 0, 0
    while position + n <= len(words):
        gram = tuple(words[position : position + n])
        if gram in seen:
            expected += sum(map(len, gram))
            position += n
        else:
            seen.add(gram)
            position += 1
    assert Ngrams(words).duplicate_characters(n) == expected


@settings(max_examples=200, deadline=None)
@given(WORDS, st.integers(2, 10))
def test_every_occurrence_covers_each_word_once(words, n):
    counts = Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))
    inside = set()
    for start in range(len(words) - n + 1):
        if counts[tuple(words[start : start + n])] > 1:
            inside.update(range(start, start + n))
    assert Ngrams(words).duplicate_characters(n, every=True) == sum(len(words[index]) for index in inside)


def test_a_clean_text_is_kept_however_short():
    assert judge("one two three four").reason == ""  # one 4-gram is the whole text, but repeats nothing
    assert judge("").reason == ""
    assert judge(distinct(500)).reason == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("\n".join([distinct(5, 5 * index) for index in range(7)] + ["x", "x", "x"]), ""),  # 2 of 10 lines
        ("\n".join([distinct(5, 5 * index) for index in range(6)] + ["x"] * 4), ""),  # 3 of 10 is kept
        ("\n".join([distinct(5, 5 * index) for index in range(5)] + ["x"] * 5), "duplicate_lines"),
        ("\n\n".join([distinct(9)] * 2), "duplicate_lines"),  # half
        (
            "\n".join([distinct(5), distinct(5, 10), distinct(5, 20), *[distinct(20, 100)] * 2]),
            "duplicate_line_characters",
        ),
        (" ".join(["the cat"] * 10) + " " + distinct(40), "top_2_gram"),
        (distinct(60) + " " + distinct(20), "duplicate_5_grams"),
    ],
)
def test_rules(text, reason):
    verdict = judge(text)
    assert verdict.reason == reason
    if reason:
        assert verdict.value > verdict.threshold


def test_counting_every_occurrence_is_stricter():
    text = "\n".join([distinct(5, 5 * index) for index in range(8)] + ["abcd"] * 3)  # 2 later of 11, 3 of 11
    rules = {"max_duplicate_lines": 0.2, "max_duplicate_line_characters": 1.0}
    assert judge(text, GopherRepetition(**rules)).reason == ""
    assert judge(text, GopherRepetition(**rules, counting="every")).reason == "duplicate_lines"


def test_a_shorter_text_than_the_ngram():
    assert Ngrams([]).top_characters(2) == 0
    assert Ngrams(["a"]).duplicate_characters(5) == 0
    assert Ngrams(["a"]).duplicate_characters(5, every=True) == 0
