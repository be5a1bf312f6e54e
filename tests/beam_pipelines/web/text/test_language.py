"""Language identification: spaces, empty and mixed texts, thresholds of single languages."""

import dataclasses
import pickle

import pytest

from beam_pipelines.web.document import Document, Measure, Verdict, configuration
from beam_pipelines.web.text.language import BLOCK, LID_176, Language, _model, identify, language_share, packaged_model
from t5x_style.errors import UserError

ENGLISH = "The weather was fine and the children played in the garden until the evening came"
GERMAN = "Das Wetter war schön und die Kinder spielten im Garten, bis der Abend kam"
SENTENCES = {
    "en": ENGLISH,
    "de": GERMAN,
    "fr": "Il faisait beau et les enfants ont joué dans le jardin jusqu'à la tombée de la nuit",
    "es": "Hacía buen tiempo y los niños jugaron en el jardín hasta que llegó la noche",
    "it": "Il tempo era bello e i bambini hanno giocato nel giardino fino a quando è arrivata la sera",
    "pt": "O tempo estava bom e as crianças brincaram no jardim até que a noite chegou",
    "ru": "Погода была хорошая, и дети играли в саду, пока не наступил вечер",
    "ar": "كان الطقس جميلا ولعب الأطفال في الحديقة حتى حل المساء",
    "hi": "मौसम अच्छा था और बच्चे शाम होने तक बगीचे में खेलते रहे",
    "zh": "天气很好，孩子们在花园里一直玩到晚上。",
    "ja": "天気がよかったので、子どもたちは夕方まで庭で遊んでいました。",
    "ko": "날씨가 좋아서 아이들은 저녁이 될 때까지 정원에서 놀았습니다",
    "th": "อากาศดีและเด็กๆ เล่นอยู่ในสวนจนถึงเย็น",
    "tr": "Hava güzeldi ve çocuklar akşam olana kadar bahçede oynadılar",
}


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


@pytest.mark.parametrize("language", sorted(SENTENCES))
def test_identify(language):
    found, score = identify(SENTENCES[language])
    assert found == language
    assert score > 0.8


def test_the_codes_are_the_models():
    assert {label.removeprefix("__label__") for label in _model(packaged_model()).get_labels()} == LID_176


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\n", "\t", "\u3000", "\x0b", "  "])
def test_any_unicode_space_separates_words(space):
    assert identify(ENGLISH.replace(" ", space)) == identify(ENGLISH)


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2028\u00a0", "\0"])
def test_empty_texts_have_no_language(text):
    assert identify(text) == ("", 0.0)


@pytest.mark.parametrize("broken", ["\ud800", "\0", "\udfff\ud800"])
def test_what_utf8_cannot_hold_does_not_matter(broken):
    language, score = identify(f"{ENGLISH} {broken} {ENGLISH}")
    assert language == "en"
    assert score > 0.9


def test_apply_sets_the_columns_and_judges():
    score = identify(ENGLISH)[1]
    outcome = Language(threshold=score).apply(document(ENGLISH))
    assert (outcome.document.language, outcome.document.language_score) == ("en", score)
    assert outcome.verdict == Verdict()
    assert outcome.measures == [Measure("language_score", score, minimum=score, reason="language_score")]
    outcome = Language(threshold=score + 1e-6).apply(document(ENGLISH))
    assert outcome.verdict == ("language_score", score, score + 1e-6)
    outcome = Language(languages=("de",)).apply(document(ENGLISH))
    assert (outcome.document.language, outcome.verdict) == ("en", ("other_language", score, 0.65))
    assert outcome.measures == ()  # the score of a language nobody asked for is not in the histogram


def test_empty_documents():
    assert Language(languages=(), threshold=0.0).apply(document("")).verdict.reason == ""
    assert Language(languages=()).apply(document(" ")).verdict == ("language_score", 0.0, 0.65)
    assert Language().apply(document("")).verdict.reason == "other_language"


def test_thresholds_of_single_languages():
    score = identify(GERMAN)[1]
    stage = Language(languages=["en", "de"], threshold=1.0, thresholds={"de": score})
    assert stage.apply(document(GERMAN)).verdict == Verdict()
    assert stage.apply(document(ENGLISH)).verdict == ("language_score", identify(ENGLISH)[1], 1.0)
    every = Language(languages=(), threshold=0.0, thresholds={"de": 1.0})
    assert every.apply(document(GERMAN)).verdict == ("language_score", score, 1.0)
    assert every.apply(document(SENTENCES["zh"])).verdict == Verdict()


def test_only_the_first_characters_are_read():
    text = ENGLISH + " " + GERMAN * 20
    assert Language().apply(document(text)).document.language == "de"
    outcome = Language(max_characters=len(ENGLISH)).apply(document(text))
    assert outcome.document.language == "en"
    assert outcome.document.text == text


def test_mixed_documents():
    mixed = (ENGLISH + "\n") * 30 + (GERMAN + "\n") * 10
    language, score = identify(mixed)
    assert language == "en"
    assert score > 0.65  # the score alone lets it pass
    share = language_share(mixed, "en")
    assert 0.6 < share < 0.8  # three quarters are English, one block holds both
    assert Language(min_share=share).apply(document(mixed)).verdict == Verdict()
    stage = Language(min_share=0.9)
    assert stage.apply(document(mixed)).verdict == ("mixed_languages", share, 0.9)
    assert stage.apply(document(ENGLISH)).verdict == Verdict()
    assert [measure.signal for measure in stage.apply(document(ENGLISH)).measures] == [
        "language_score",
        "language_share",
    ]


def test_shares_of_odd_texts():
    assert language_share("", "en") == 0.0
    assert language_share("\n \n", "en") == 0.0
    assert language_share((ENGLISH + " ") * (5 * BLOCK // len(ENGLISH)), "en") == 1.0  # one line of five blocks


def test_a_stage_pickles_without_its_model():
    stage = Language(thresholds={"en": 0.5})
    identify(ENGLISH)
    assert len(pickle.dumps(stage)) < 1000
    assert pickle.loads(pickle.dumps(stage)) == stage


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"languages": "en"}, r"write \['en'\]"),
        ({"languages": ["english"]}, "no language english"),
        ({"thresholds": {"de": 0.5}}, "names de"),
        ({"languages": [], "thresholds": {"xx": 0.5}}, "no language xx"),
        ({"threshold": 65}, "65 is no score"),
        ({"thresholds": {"en": -0.1}}, "-0.1 is no score"),
        ({"min_share": 1.1}, "1.1 is no score"),
        ({"max_characters": 0}, "None reads whole documents"),
    ],
)
def test_impossible_parameters(parameters, message):
    with pytest.raises(UserError, match=message):
        Language(**parameters)


def test_codes_of_another_model_are_not_checked(tmp_path):
    (tmp_path / "other.bin").write_bytes(b"a model")
    stage = Language(model=str(tmp_path / "other.bin"))
    assert dataclasses.replace(stage, languages=["english"]).languages == ["english"]


def test_another_model_in_the_same_place_is_another_configuration(tmp_path):
    path = tmp_path / "other.bin"
    path.write_bytes(b"a model")
    before = configuration(Language(model=str(path)))
    assert configuration(Language(model=str(path))) == before
    path.write_bytes(b"a larger model")
    assert configuration(Language(model=str(path))) != before


def test_a_model_that_is_not_there():
    with pytest.raises(UserError, match=r"nowhere\.ftz"):
        identify(ENGLISH, "nowhere.ftz")
    with pytest.raises(UserError, match=r"Language\.model .*nowhere\.ftz"):
        Language(model="nowhere.ftz")
