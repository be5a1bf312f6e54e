"""Sentence splitting: every language's marks, and that nothing is lost."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_pipelines.text import sentences as sentences_module
from beam_pipelines.text.sentences import count_sentences, split_sentences

ALPHABET = "aB1 .!?\"'()\n\r\t\u00a0\u2028。！？；…”」と漢字かที่ہ۔।\u0301\ud800\0:,-"
TEXTS = st.one_of(st.text(alphabet=ALPHABET, max_size=50), st.text(max_size=40))


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", []),
        ("en", [" \n\t "]),
        ("en", ["no mark at all"]),
        ("en", ["Dr. Smith went to Washington, D.C. in Jan. 1999. ", "He paid $3.50 for it! ", '"Why?" she asked.']),
        ("en", ["\n A line without a stop\n\n ", "Another one.\n", "The\u2028last."]),
        ("de", ["Das ist z. B. gut. ", "Am 3. Oktober kam er. ", "Dr. Meier auch."]),
        ("fr", ["Il est 5 h. ", "Voir p. ex. Dupont\u00a0! ", "Oui\u00a0?"]),
        ("hi", ["मौसम अच्छा था। ", "बच्चे खेलते रहे। ", "क्या?"]),
        ("ar", ["كيف الحال؟ ", "أنا بخير. ", "شكرا!"]),
        ("zh", ["我们很好。", "“你好吗？”", "他问。", "哈哈！！", "是的……", "对；", "3.5米。\n", "没有标点"]),
        ("zh", ["看https://a.cn/?q=1&b!x 吧! ", "好?"]),
        ("zh", ["（他说：“好。”）", "「对。」", "『行！』\u3000\n\n", "完"]),
        ("ja", ["「はい。」と言った。", "「帰る！」\n", "そうか？", "「いいえ。」って。"]),
        ("th", ["พ.ศ. 2563 ดี ", "ไม่ดี"]),
        ("th", ["ดีไหม? ", "ดี\n", "จบ"]),
        ("", ["First one. ", "Second one."]),
        ("xx", ["First one. ", "Second one."]),
        ("en", ["A\ud800b here. ", "Yes\0. ", "Three."]),
    ],
)
def test_sentences(language, sentences):
    text = "".join(sentences)
    if sentences == ["พ.ศ. 2563 ดี ", "ไม่ดี"]:
        sentences = [text]  # a space does not end a sentence, a full stop neither
    assert split_sentences(text, language) == sentences


def test_count():
    assert count_sentences("", "en") == 0
    assert count_sentences("... !!! \n", "en") == 0
    assert count_sentences("One. Two. ... Three", "en") == 3
    assert count_sentences("今天天气很好。我们去公园！你呢？", "zh") == 3
    assert count_sentences("今天天气很好。我们去公园！你呢？", "en") == 3


def test_a_very_long_line():
    assert count_sentences("Some words here. " * 50_000, "en") == 50_000
    assert count_sentences("很好。" * 50_000, "zh") == 50_000
    assert len(split_sentences("a" * 1_000_000, "en")) == 1


def test_a_long_line_in_pieces_has_the_same_sentences(monkeypatch):
    text = " ".join(
        f"Dr. No. {n} paid $3.50 on Jan. 5 (so they say). Why? 'It was' \"{'very ' * (n % 40)}late.\""
        for n in range(90)
    )
    whole = split_sentences(text)
    assert len(whole) > 150
    for piece in (60, 1000, 2000):  # the longest sentence has 240 characters
        monkeypatch.setattr(sentences_module, "_PIECE", piece)
        pieces = split_sentences(text)
        assert "".join(pieces) == text
        if piece > 60:
            assert pieces == whole
    monkeypatch.setattr(sentences_module, "_PIECE", 50)
    assert split_sentences("a " * 200 + "end. Next one." + " " * 20 + "Last.") == [
        "a " * 200 + "end. ",
        "Next one." + " " * 20,
        "Last.",
    ]


def test_time_does_not_grow_as_the_square_of_the_apostrophes():
    started = time.process_time()
    split_sentences("'" * 200_000)
    assert time.process_time() - started < 3  # 4.5 s in one piece, four times that for twice as many


@pytest.mark.parametrize("language", ["en", "zh", "ja", "th", "hi", "xx"])
@given(text=TEXTS)
@example(text="a.\n\nb")
@example(text="\r\n.\u2028")
def test_sentences_joined_are_the_text(language, text):
    sentences = split_sentences(text, language)
    assert "".join(sentences) == text
    assert all(map(str.strip, sentences)) or len(sentences) == 1
    assert all("\n" not in sentence.strip() for sentence in sentences)
    assert count_sentences(text, language) <= len(sentences)
