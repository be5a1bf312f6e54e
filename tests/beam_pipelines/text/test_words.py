"""Word splitting in every kind of script, and where the words stand."""

import re

import numpy as np
import pytest
import regex
from hypothesis import assume, example, given
from hypothesis import strategies as st

from beam_pipelines.text.words import normalised_words, split_words, word_spans

# Latin, marks, joiners, Han, Kana, Thai, Devanagari, Hangul, punctuation of all kinds, spaces of all kinds.
ALPHABET = "aé.'(\"\u0301\u200d\u200c“”。，「」（）漢字我们カー"
ALPHABET += "のที่หนูกำहिन्दी가각\u1100\u1161 \n\u00a0\u3000\u2028\x1f\x1c👩👍🏽❤\ufe0f𠀀々〆"
TEXTS = st.one_of(st.text(alphabet=ALPHABET, max_size=60), st.text(max_size=40))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\u00a0\u3000", []),
        ("It's 3.5 dB, he\u00a0said.\n", ["It's", "3.5", "dB,", "he", "said."]),
        ("“Schöne” Straße—naïve… €5", ["“Schöne”", "Straße—naïve…", "€5"]),
        ("같은 조직원이던, 8월", ["같은", "조직원이던,", "8월"]),  # Hangul has spaces
        ("हिन्दी में लिखा है।", ["हिन्दी", "में", "लिखा", "है।"]),
        ("اللغة العربية، جميلة", ["اللغة", "العربية،", "جميلة"]),
        ("我们用Python，他说：“好。”", ["我们", "用", "Python，", "他", "说：", "“好。”"]),
        ("今天天气很好。 我们去公园！", ["今天", "天气", "很好。", "我们", "去", "公园！"]),
        ("私は東京に住んでいます。", ["私", "は", "東京", "に", "住", "んで", "い", "ます。"]),
        ("ภาษาไทยเป็นภาษา", ["ภาษา", "ไทย", "เป็น", "ภาษา"]),
        ("ພາສາລາວ", ["ພາສາ", "ລາວ"]),
        ("ខ្ញុំស្រឡាញ់អ្នក", ["ខ្ញុំ", "ស្រឡាញ់", "អ្នក"]),
        ("မြန်မာစာအုပ်", ["မြန်မာ", "စာအုပ်"]),
        ("བོད་སྐད།", ["བོད་", "སྐད།"]),
        ("（漢字）foo-bar，3.5米", ["（漢字）", "foo-bar，", "3.5", "米"]),
        ("漢字\x1f漢字", ["漢字", "漢字"]),
        ("a\ud800漢字", ["a\ud800", "漢字"]),  # a lone surrogate
        ("漢字\0漢字", ["漢字\0", "漢字"]),
        ("\ufeff ❤\ufe0f 👩‍👩‍👧 👍🏽", ["\ufeff", "❤\ufe0f", "👩‍👩‍👧", "👍🏽"]),
    ],
)
def test_split_words(text, words):
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("...", []),
        ("It's 3.5 dB, he_said.", ["it", "s", "3", "5", "db", "he_said"]),
        ("ÉCOLE—Straße…", ["école", "straße"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("İstanbul", ["i\u0307stanbul"]),  # the lower case has a combining dot
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("বাংলা ভাষা", ["বাংলা", "ভাষা"]),
        ("க்ஷ தமிழ்", ["க்ஷ", "தமிழ்"]),
        ("می\u200cخواهم بروم", ["می\u200cخواهم", "بروم"]),  # Persian, zero-width non-joiner
        ("مُحَمَّد", ["مُحَمَّد"]),
        ("我们用Python，", ["我们", "用", "python"]),
        ("ภาษาไทย", ["ภาษา", "ไทย"]),
        ("「カタカナ」・（ＡＢＣ）", ["カタカナ", "ａｂｃ"]),
    ],
)
def test_normalised_words(text, words):
    assert normalised_words(text) == words


def test_chinese_and_thai_words_are_as_many_as_their_translation_has():
    # The same three sentences; Gopher's limits on the number of words stay sensible if the counts are alike.
    english = "The old bridge was built of stone. In winter the river carries ice. People walk there in spring."
    chinese = "这座老桥是用石头建造的。冬天河里有冰。人们春天在那里散步。"
    thai = "สะพานเก่าสร้างด้วยหิน ในฤดูหนาวแม่น้ำมีน้ำแข็ง ผู้คนเดินเล่นที่นั่นในฤดูใบไม้ผลิ"
    count = len(split_words(english))
    assert count == 18
    assert 0.7 * count <= len(split_words(chinese)) <= 1.3 * count
    assert 0.7 * count <= len(split_words(thai)) <= 1.7 * count


def test_a_run_is_divided_the_same_wherever_it_stands():
    alone = split_words("今天天气很好")
    assert split_words("x " + "今天天气很好" + " ที่นี่ y") == ["x", *alone, *split_words("ที่นี่"), "y"]
    assert split_words("今天天气很好\n今天天气很好") == alone * 2


def test_a_very_long_run_takes_linear_time():
    assert "".join(split_words("今天天气很好" * 30_000)) == "今天天气很好" * 30_000


@given(TEXTS)
@example("؀漢 ")
def test_words_leave_out_spaces_only(text):
    words = split_words(text)
    assert "".join(words) == "".join(text.split())
    assert all(words)
    assert not any(map(str.isspace, "".join(words)))


@given(st.text(alphabet="ab.é’“ \n\u00a0ßж👍", max_size=60))
def test_scripts_with_spaces_are_split_at_spaces(text):
    assert split_words(text) == text.split()
    assert normalised_words(text) == re.findall(r"\w+", text.lower())


@given(TEXTS)
def test_spans_are_where_the_words_are(text):
    words = split_words(text)
    starts, ends = word_spans(text, words)
    assert starts.dtype == ends.dtype == np.int64
    assert [text[start:end] for start, end in zip(starts, ends)] == words
    assert bool(np.all(starts < ends))
    assert bool(np.all(ends[:-1] <= starts[1:]))
    covered = {place for start, end in zip(starts, ends) for place in range(start, end)}
    assert covered == {place for place, character in enumerate(text) if not character.isspace()}


@given(st.text(alphabet=ALPHABET, max_size=60))
@example("aำ漢ำ")
def test_no_word_ends_inside_a_character_with_its_marks(text):
    assume(not regex.search(r"\p{Devanagari}[\p{M}\u200d]*\p{Thai}", text))  # nobody's writing
    inside = {place for cluster in regex.finditer(r"\X", text) for place in range(cluster.start() + 1, cluster.end())}
    # A space before a mark is a cluster with it, and CR LF is one: both are spaces, between words anyway.
    inside -= {place for place in inside if text[place - 1].isspace()}
    starts, ends = word_spans(text, split_words(text))
    assert not inside.intersection(starts.tolist())
    assert not inside.intersection(ends.tolist())


def test_spans_refuse_the_words_of_another_text():
    with pytest.raises(ValueError, match="number of characters"):
        word_spans("a bc", ["a", "b"])
    with pytest.raises(ValueError, match="where the text has spaces"):
        word_spans("a bc", ["ab", "c"])
    assert [array.tolist() for array in word_spans(" \n", [])] == [[], []]
