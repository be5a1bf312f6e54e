"""Every Gopher quality rule at its boundary: the last value kept, the first rejected."""

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.text.words import normalised_words
from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.filters.gopher_quality import GopherQuality
from t5x_style.errors import UserError

RULES = GopherQuality()


def document(text: str) -> Document:
    return Document("0" * 32, text, "", "", "", "en", 1.0, "{}")


def judge(text: str, rules: GopherQuality = RULES):
    return rules.judge(document(text))


def filler(count: int) -> str:
    """`count` words with a stop word in every other place."""
    return " ".join(("the", "river", "of", "stones")[index % 4] for index in range(count))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (filler(49), "words_low"),
        (filler(50), ""),
        (filler(100_000), ""),
        (filler(100_001), "words_high"),
        ("the of abc " + " ".join(["abc"] * 97), "mean_word_length_low"),  # 2.99
        ("the off " + " ".join(["abc"] * 98), "stop_words_low"),  # 3.0 is kept by the rule before
        ("the of " + " ".join(["a" * 10] * 98 + ["a" * 15]), ""),  # 9.9
        ("the that " + " ".join(["a" * 10] * 97 + ["a" * 23]), ""),  # 10.0 is kept
        ("the that " + " ".join(["a" * 10] * 97 + ["a" * 24]), "mean_word_length_high"),
        (filler(90) + " stone#" * 10, ""),  # 10 of 100 words: 0.1 is kept
        (filler(89) + " stone#" * 11, "hash_ratio_high"),
        ("stone… " * 10 + filler(90), ""),
        ("stone... " * 11 + filler(89), "ellipsis_ratio_high"),
        ("\n".join(["- " + filler(10)] * 9 + [filler(10)]), ""),  # 90% is kept
        ("\n".join(["• " + filler(10)] * 10), "bullet_lines_high"),
        ("\n".join(["   • " + filler(10)] * 10), "bullet_lines_high"),  # indented
        ("\n\n".join(["- " + filler(10)] * 10), "bullet_lines_high"),  # blank lines are no lines
        ("\n".join([filler(20) + "..."] * 3 + [filler(20)] * 7), ""),  # 30% is kept
        ("\n".join([filler(20) + "…"] * 4 + [filler(20)] * 6), "ellipsis_lines_high"),
        (filler(80) + " 1234" * 20, ""),  # 80% with a letter is kept
        (filler(79) + " 1234" * 21, "alphabetic_words_low"),
        (filler(80) + " (4a)," * 20, ""),  # a letter anywhere in the word
        (" ".join(["river", "stone"] * 30), "stop_words_low"),
        (" ".join(["the"] * 5 + ["river", "stone"] * 30), "stop_words_low"),  # one distinct stop word, five times
        (" ".join(["The", "(and)"] + ["river", "stone"] * 30), ""),  # case and punctuation do not hide a stop word
        (" ".join(["theology", "band"] + ["river", "stone"] * 30), "stop_words_low"),
    ],
)
def test_boundaries(text, reason):
    verdict = judge(text)
    assert verdict.reason == reason
    if reason:
        assert verdict.value is not None
        assert verdict.threshold is not None


def test_verdict_carries_value_and_threshold():
    assert judge(filler(49)) == ("words_low", 49, 50)
    assert judge(filler(79) + " 1234" * 21) == ("alphabetic_words_low", 0.79, 0.8)


@pytest.mark.parametrize("text", ["", " \n ", "\u00a0", "\u2003\t"])
def test_empty_documents_are_rejected_whatever_the_minimum(text):
    assert judge(text, GopherQuality(min_words=0)) == ("words_low", 0, 1)


@pytest.mark.parametrize("text", ["\x00", "\ud800", "word", "河" * 30, "x" * 2_000_000, "...\n...", "#" * 60])
def test_odd_texts_get_a_verdict(text):
    assert judge(text).reason == "words_low"
    everything = GopherQuality(min_words=0, min_mean_word_length=0, max_mean_word_length=1e9, min_stop_words=0)
    assert judge(text, everything).reason in ("", "hash_ratio_high", "ellipsis_ratio_high", "alphabetic_words_low")


def test_kept_documents_give_every_signal():
    outcome = RULES.apply(document(filler(60)))
    assert outcome.verdict == KEEP
    assert [measure.signal for measure in outcome.measures] == [
        "words",
        "mean_word_length",
        "hash_ratio",
        "ellipsis_ratio",
        "bullet_lines",
        "ellipsis_lines",
        "alphabetic_words",
        "stop_words",
    ]
    assert outcome.measures[0].value == 60
    assert outcome.measures[-1].value == 2  # the, of


def test_apply_uses_the_documents_words_and_keeps_the_document():
    given = document(filler(60))
    outcome = RULES.apply(given)
    assert outcome.document is given
    given.__dict__["words"] = ["the"]  # what another stage has split is not split again
    assert RULES.apply(given).verdict.reason == "words_low"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["the", "The", "(be)", "theology", "to-of", "和", "的人", "st\u0130ll", "and,"]), min_size=1
    )
)
def test_stop_words_are_those_among_the_normalised_words(words):
    text = " ".join(words)
    rules = GopherQuality(min_words=0, min_mean_word_length=0, stop_words=["the", "be", "to", "of", "and", "的", "和"])
    value = rules.apply(document(text)).measures[-1]
    assert value[:2] == ("stop_words", len(set(normalised_words(text)).intersection(rules.stop_words)))


def test_stop_words_of_another_language():
    german = GopherQuality(stop_words=("der", "die", "und"), min_stop_words=3)
    assert judge(" ".join(["Der", "die", "und"] * 20), german) == KEEP
    assert judge(" ".join(["Der", "die", "das"] * 20), german) == ("stop_words_low", 2, 3)


def test_survives_pickling():
    judge(filler(60))  # what was cached on the way does no harm
    assert pickle.loads(pickle.dumps(RULES)) == RULES


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"min_words": 10, "max_words": 9}, "min_words"),
        ({"min_mean_word_length": -1.0}, "min_mean_word_length"),
        ({"max_hash_ratio": -0.1}, "max_hash_ratio"),
        ({"min_alphabetic_words": 80}, "min_alphabetic_words"),
        ({"min_stop_words": 3, "stop_words": ["the", "of"]}, "min_stop_words"),
        ({"stop_words": ["The", "of"]}, "stop_words"),
        ({"stop_words": "the of"}, "stop_words"),
    ],
)
def test_impossible_parameters_are_refused(parameters, names):
    with pytest.raises(UserError, match=names):
        GopherQuality(**parameters)
