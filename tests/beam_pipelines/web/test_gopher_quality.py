"""Every Gopher quality rule at its boundary: the last value kept, the first rejected."""

import pytest

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.gopher_quality import GopherQuality
from beam_pipelines.web.words import normalised_words, split_words

RULES = GopherQuality()


def judge(text: str, rules: GopherQuality = RULES):
    return rules.judge(text, split_words(text))


def filler(count: int) -> str:
    """`count` words with a stop word in every fourth place."""
    return " ".join(("the", "river", "of", "stones")[index % 4] for index in range(count))


def test_words():
    assert split_words("It's 3.5 dB, he\u00a0said.\n") == ["It's", "3.5", "dB,", "he", "said."]
    assert normalised_words("It's 3.5 dB, he said.") == ["it", "s", "3", "5", "db", "he", "said"]
    assert split_words(" \n") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (filler(49), "too_few_words"),
        (filler(50), ""),
        (filler(100_000), ""),
        (filler(100_001), "too_many_words"),
        ("the of " + " ".join(["ab"] * 98), "short_words"),
        ("the of " + " ".join(["abcde"] * 98), ""),
        ("the of " + " ".join(["a" * 11] * 98), "long_words"),
        (filler(90) + " stone#" * 10, ""),  # 10 of 100 words: 0.1 is kept
        (filler(89) + " stone#" * 11, "hashes"),
        ("stone… " * 10 + filler(90), ""),
        ("stone... " * 11 + filler(89), "ellipses"),
        ("\n".join(["- " + filler(10)] * 9 + [filler(10)]), ""),  # 90% is kept
        ("\n".join(["• " + filler(10)] * 10), "bullet_lines"),
        ("\n".join([filler(20) + "..."] * 3 + [filler(20)] * 7), ""),  # 30% is kept
        ("\n".join([filler(20) + "…"] * 4 + [filler(20)] * 6), "ellipsis_lines"),
        (filler(80) + " 1234" * 20, ""),  # 80% with a letter is kept
        (filler(79) + " 1234" * 21, "non_alphabetic_words"),
        (" ".join(["river", "stone"] * 30), "few_stop_words"),
        (" ".join(["the"] * 5 + ["river", "stone"] * 30), "few_stop_words"),  # one distinct stop word, five times
        (" ".join(["The", "(and)"] + ["river", "stone"] * 30), ""),  # case and punctuation do not hide a stop word
    ],
)
def test_boundaries(text, reason):
    verdict = judge(text)
    assert verdict.reason == reason
    if reason:
        assert verdict.value is not None
        assert verdict.threshold is not None


def test_verdict_carries_value_and_threshold():
    assert judge(filler(49)) == ("too_few_words", 49, 50)


@pytest.mark.parametrize("text", ["", " \n ", "\u00a0"])
def test_empty_documents_are_rejected_whatever_the_minimum(text):
    assert judge(text, GopherQuality(min_words=0)).reason == "too_few_words"


def test_apply_uses_the_documents_words_and_keeps_the_document():
    document = Document("0" * 32, filler(60), "", "", "", "en", 1.0, "{}")
    same, verdict = RULES.apply(document)
    assert same is document
    assert verdict == KEEP
    document.__dict__["words"] = ["the"]  # what another stage has split is not split again
    assert RULES.apply(document)[1].reason == "too_few_words"
