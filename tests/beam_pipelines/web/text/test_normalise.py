"""Text normalisation: what goes, what stays, and that once is enough."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.text.normalise import NormaliseText
from t5x_style.errors import UserError

ALPHABET = "ae\u0301\u0327 \u00a0\u3000\n\r\t\x0b\x85\u2028\u200b\u200c\u200d\u00ad\ufeff\ud800\0\u202eकी\u094dمی漢ガ"
ALPHABET += "\uff76\uff9eﬁ²①\u2329\U0001f3f4\U000e0067\U000e007f👩❤\ufe0f“’—ำกำ\u1100\u1161\ufffe"
TEXTS = st.one_of(st.text(alphabet=ALPHABET, max_size=40), st.text(max_size=40))


def document(text):
    return Document("0" * 32, text, "", "", "", "", 0.0, "{}")


@pytest.mark.parametrize(
    ("text", "expected", "edits"),
    [
        ("", "", {}),
        ("plain\ttext\n", "plain\ttext\n", {}),
        ("a\r\nb\rc\u2028d\x0be", "a\nb\nc\nd\ne", {"line_ends": 4}),
        ("a\u00a0b\u2003c\u3000d", "a b c d", {"spaces": 3}),
        ("fi\u00adne\u200b \ufeffday\0\x1b", "fine day", {"invisible_characters": 5}),
        ("e\u0301", "é", {"texts_composed": 1}),
        ("e\u200b\u0301", "é", {"invisible_characters": 1}),
        ("\u202eabc\u202c \u2066x\u2069", "abc x", {"invisible_characters": 4}),
        ("a\ud800b", "ab", {"invisible_characters": 1}),
        ("\u1112\u1161\u11ab", "한", {"texts_composed": 1}),
        # Joiners that are read, and those that are not.
        ("می\u200cخواهم", "می\u200cخواهم", {}),
        ("क्\u200dष", "क्\u200dष", {}),
        ("👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥", "👩\u200d👩\u200d👧 ❤\ufe0f\u200d🔥", {}),
        ("w\u200dord می\u200c\u200cخ", "word می\u200cخ", {"invisible_characters": 2}),
        # The flag of Scotland, and tag letters that hide a text.
        ("\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in "gbsct\x7f"),) * 2 + ({},),
        ("a" + "".join(chr(0xE0000 + ord(c)) for c in "hide"), "a", {"invisible_characters": 4}),
        ("“It’s” — 5 − 3", "“It’s” — 5 − 3", {}),
        ("ภาษาไทยคำ ｶﾞ ﬁ ², Ａ", "ภาษาไทยคำ ｶﾞ ﬁ ², Ａ", {}),
    ],
)
def test_defaults(text, expected, edits):
    assert NormaliseText().normalise(text) == (expected, edits)


def test_options():
    assert NormaliseText(quotes=True, dashes=True).normalise("“It’s” — 5 − 3 «x»") == (
        '"It\'s" - 5 - 3 «x»',
        {"quotes": 3, "dashes": 2},
    )
    assert NormaliseText(form="NFKC").normalise("ｶﾞ ﬁ 10² Ａ") == ("ガ fi 102 A", {"texts_composed": 1})
    assert NormaliseText(form="").normalise("e\u0301\u00a0") == ("e\u0301 ", {"spaces": 1})


def test_the_stage_changes_the_text_and_counts():
    before = document("a\u00a0b")
    outcome = NormaliseText().apply(before)
    assert outcome.document.text == "a b"
    assert outcome.verdict == KEEP
    assert outcome.edits == {"spaces": 1}
    assert before.text == "a\u00a0b"
    same = document("a b")
    assert NormaliseText().apply(same) == (same, KEEP, (), {})
    assert NormaliseText().apply(same).document is same


def test_an_unknown_form():
    with pytest.raises(UserError, match="NFD"):
        NormaliseText(form="NFD")


@pytest.mark.parametrize("form", ["NFC", "NFKC", ""])
@given(text=TEXTS)
@example(text="〈\u200d")
@example(text="\u2adc\u200d")
def test_once_is_enough(form, text):
    stage = NormaliseText(form=form, quotes=True, dashes=True)
    once, _ = stage.normalise(text)
    assert stage.normalise(once) == (once, {})


@given(TEXTS)
def test_letters_stay(text):
    def letters(value):
        return [c for c in unicodedata.normalize("NFD", value) if unicodedata.category(c)[0] in "LN"]

    assert letters(NormaliseText().normalise(text)[0]) == letters(text.encode("utf-8", "ignore").decode())
