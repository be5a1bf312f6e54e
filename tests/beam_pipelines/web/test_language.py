"""Language identification: spaces, empty texts, thresholds."""

import pytest

from beam_pipelines.web.document import Document
from beam_pipelines.web.language import Language, identify
from t5x_style.errors import UserError

ENGLISH = "The weather was fine and the children played in the garden until the evening came"


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


def test_identify():
    language, score = identify(ENGLISH)
    assert language == "en"
    assert score > 0.9
    assert identify("Der Hund läuft schnell über die Straße und bellt")[0] == "de"


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\n", "\t", "\u3000", "\x0b"])
def test_any_unicode_space_separates_words(space):
    assert identify(ENGLISH.replace(" ", space)) == identify(ENGLISH)


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2028\u00a0"])
def test_empty_texts_have_no_language(text):
    assert identify(text) == ("", 0.0)


def test_apply_sets_the_columns_and_judges():
    score = identify(ENGLISH)[1]
    kept, verdict = Language(threshold=score).apply(document(ENGLISH))
    assert (kept.language, kept.language_score, verdict.reason) == ("en", score, "")
    assert Language(threshold=score + 1e-6).apply(document(ENGLISH))[1] == ("language_score", score, score + 1e-6)
    other, verdict = Language(languages=("de",)).apply(document(ENGLISH))
    assert (other.language, verdict.reason) == ("en", "other_language")
    assert Language(languages=(), threshold=0.0).apply(document(""))[1].reason == ""


def test_a_model_that_is_not_there():
    with pytest.raises(UserError, match=r"nowhere\.ftz"):
        identify(ENGLISH, "nowhere.ftz")
