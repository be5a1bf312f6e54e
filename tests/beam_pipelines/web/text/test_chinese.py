"""Traditional to simplified Chinese."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.text.chinese import CONVERSIONS, SimplifyChinese, simplify
from t5x_style.errors import UserError


def document(text, language="zh"):
    return Document("0" * 32, text, "", "", "", language, 1.0, "{}")


@pytest.mark.parametrize(
    ("text", "expected", "changed"),
    [
        ("", "", 0),
        (" \n", " \n", 0),
        ("plain", "plain", 0),
        ("简体中文不变。", "简体中文不变。", 0),
        ("乾燥的臺灣", "干燥的台湾", 3),
        ("乾坤", "乾坤", 0),  # by phrases, not by characters
        ("皇后在後面", "皇后在后面", 1),
        ("ภาษาไทย हिन्दी العربية", "ภาษาไทย हिन्दी العربية", 0),
        ("學\ud800習\udfff", "学\ud800习\udfff", 2),
        ("學\0習", "学\0习", 2),
    ],
)
def test_simplify(text, expected, changed):
    assert simplify(text) == (expected, changed)


def test_vocabulary_of_taiwan():
    assert simplify("臺灣的軟體", "tw2s") == ("台湾的软体", 4)
    assert simplify("臺灣的軟體", "tw2sp") == ("台湾的软件", 4)
    # 網際網路 becomes 互联网, one character less: four are counted in that line, two in the other.
    assert simplify("用網際網路了\n臺灣", "tw2sp") == ("用互联网了\n台湾", 6)


def test_only_chinese_documents():
    japanese = document("東京の図書館で実験する", "ja")
    assert SimplifyChinese().apply(japanese) == (japanese, KEEP, (), {})
    assert SimplifyChinese().apply(japanese).document is japanese
    assert SimplifyChinese(languages=()).apply(japanese).document.text.startswith("东京")
    outcome = SimplifyChinese().apply(document("臺灣"))
    assert (outcome.document.text, outcome.verdict, outcome.edits) == ("台湾", KEEP, {"characters_simplified": 2})
    simple = document("台湾")
    assert SimplifyChinese().apply(simple).document is simple


def test_every_conversion_loads():
    assert {simplify("漢語", conversion)[0] for conversion in CONVERSIONS} == {"汉语"}


@given(st.text(alphabet="臺灣的軟體乾燥a \n。漢語學", max_size=40))
def test_characters_stay_in_their_places(text):
    simple, changed = simplify(text)
    assert len(simple) == len(text)
    assert changed == sum(old != new for old, new in zip(text, simple))


def test_a_stage_pickles_after_use():
    stage = SimplifyChinese()
    stage.apply(document("臺灣"))
    assert pickle.loads(pickle.dumps(stage)) == stage


def test_impossible_parameters():
    with pytest.raises(UserError, match="s2t"):
        SimplifyChinese(conversion="s2t")
    with pytest.raises(UserError, match=r"write \['zh'\]"):
        SimplifyChinese(languages="zh")
