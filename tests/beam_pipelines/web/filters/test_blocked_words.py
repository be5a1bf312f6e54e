"""Blocked words: whole words, phrases, substrings, and which documents stay nevertheless."""

import pickle

import pytest

from beam_pipelines.web.document import KEEP, Document, configuration
from beam_pipelines.web.filters.blocked_words import BlockedList, BlockedWords
from t5x_style.errors import UserError


def document(text, language="en", identifier="0" * 32):
    return Document(identifier, text, "", "", "", language, 1.0, "{}")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "en").write_text("# a comment\nviolet\nRed  Herring\nred\na$$\nsky-blue\n\n", encoding="utf-8")
    (tmp_path / "zh").write_text("茄子\n蓝色天空\n", encoding="utf-8")
    (tmp_path / "th").write_text("มะเขือ\n", encoding="utf-8")
    (tmp_path / "hi").write_text("बैंगन\n", encoding="utf-8")
    (tmp_path / "ar").write_text("باذنجان\n", encoding="utf-8")
    return str(tmp_path)


LANGUAGES = ("en", "zh", "th", "hi", "ar")


@pytest.mark.parametrize(
    ("text", "language", "fraction"),
    [
        ("", "en", 0),
        (" \n", "en", 0),
        ("ultraviolet light, violets, reddish", "en", 0),
        ("Violet, violet and VIOLET!", "en", 3 / 4),
        ("a red herring", "en", 2 / 3),  # the phrase and the word in it
        ("a red-herring or red\nherring", "en", 4 / 5),
        ("the herring is not red-hot", "en", 1 / 5),
        ("you a$$! a$$et ba$$ a$$", "en", 2 / 5),
        ("Sky-Blue, sky blue, skyblue", "en", 2 / 4),
        ("violet\ud800 \0", "en", 1 / 2),
        ("violet", "zh", 0),
        ("我买了三个茄子，茄子很贵。", "zh", 2 / 7),
        ("蓝色的天空", "zh", 0),
        ("ฉันซื้อมะเขือม่วง", "th", 1 / 4),
        ("मैंने बैंगन खरीदा", "hi", 1 / 3),
        ("बैंगनी रंग", "hi", 0),  # a longer word
        ("اشتريت باذنجان اليوم", "ar", 1 / 3),
    ],
)
def test_fractions(folder, text, language, fraction):
    (measure,) = BlockedWords(folder, LANGUAGES).measures(document(text, language))
    assert (measure.signal, measure.value) == ("blocked_words", pytest.approx(fraction, abs=0.05))
    assert (measure.value > 0) == (fraction > 0)
    assert measure.verdict().reason == ("blocked_words" if fraction else "")


def test_the_threshold(folder):
    text = document("violet " + "word " * 9)
    assert BlockedWords(folder, max_fraction=0.1).judge(text) == KEEP
    assert BlockedWords(folder, max_fraction=0.0999).judge(text) == ("blocked_words", 0.1, 0.0999)
    assert BlockedWords(folder).judge(text) == ("blocked_words", 0.1, 0)


def test_some_stay_by_their_id(folder):
    texts = [document("violet", identifier=f"{number:032x}") for number in range(2000)]
    stage = BlockedWords(folder, keep_fraction=0.25)
    kept = [text.id for text in texts if stage.judge(text) == KEEP]
    assert 0.21 < len(kept) / 2000 < 0.29
    assert [text.id for text in reversed(texts) if stage.judge(text) == KEEP] == kept[::-1]
    more = {text.id for text in texts if BlockedWords(folder, keep_fraction=0.5).judge(text) == KEEP}
    assert set(kept) < more
    assert all(BlockedWords(folder, keep_fraction=1).judge(text) == KEEP for text in texts[:50])
    # What stays is measured all the same.
    (measure,) = BlockedWords(folder, keep_fraction=1).measures(texts[0])
    assert (measure.value, measure.maximum) == (1.0, None)


def test_languages_without_a_list(folder):
    assert BlockedWords(folder).judge(document("violet", "de")) == KEEP
    stage = BlockedWords(folder, missing="reject")
    assert stage.judge(document("violet", "de")) == ("no_list_for_language", 1, 0)
    assert stage.judge(document("violet", "")).reason == "blocked_words"  # no language: the first list


def test_the_packaged_list():
    stage = BlockedWords()
    assert stage.judge(document("free porn videos")).reason == "blocked_words"
    innocent = (
        "Blue tits nest near Dr. Cummings' class in Scunthorpe; breast cancer, cockpits, a threesome at golf, Essex."
    )
    assert stage.judge(document(innocent)) == KEEP


def test_lists_belong_to_the_configuration(folder, tmp_path):
    before = configuration(BlockedWords(folder))
    assert configuration(BlockedWords(folder)) == before
    (tmp_path / "en").write_text("green\n", encoding="utf-8")
    stage = BlockedWords(folder)
    assert configuration(stage) != before
    assert stage.judge(document("green")).reason == "blocked_words"
    assert pickle.loads(pickle.dumps(stage)) == stage


def test_entries_are_sorted_by_kind():
    found = BlockedList.of(["Porn", "sex cam", "sex  cam", "a$$", "sky-blue"])
    assert found.words == {"porn"}
    assert found.phrases == {"sex": [["sex", "cam"]], "sky": [["sky", "blue"]]}
    assert found.literal.pattern == r"(?<!\w)(?:a\$\$)(?!\w)"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"languages": "en"}, "give a list"),
        ({"languages": []}, "give a list"),
        ({"languages": ["de"]}, "no such file"),
        ({"folder": "/nowhere"}, "nowhere/en: no such file"),
        ({"missing": "drop"}, "choose keep or reject"),
        ({"max_fraction": 1.5}, "max_fraction is 1.5"),
        ({"keep_fraction": -0.1}, "keep_fraction is -0.1"),
    ],
)
def test_impossible_parameters(parameters, message):
    with pytest.raises(UserError, match=message):
        BlockedWords(**parameters)
