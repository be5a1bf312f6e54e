"""Symbols and markup: counts of every kind, limits at their boundaries."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document, Measure
from beam_pipelines.web.filters.symbols import CharacterCounts, Markup, Symbols, count_characters, count_markup
from t5x_style.errors import UserError


def document(text):
    return Document("0" * 32, text, "", "", "", "en", 1.0, "{}")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", (0, 0, 0, 0)),
        ("Hi! 😀", (1, 2, 1, 1)),
        ("a\u00a0\u3000\n\t", (0, 1, 4, 0)),
        ("漢字。カナ", (1, 4, 0, 0)),
        ("ภาษาที่ हिन्दी العَربيّة", (0, 22, 2, 0)),  # vowel signs count with the letters
        ("❤\ufe0f👩\u200d👧🇩🇪", (0, 2, 0, 5)),
        ("²½_$€#|~\0", (6, 3, 0, 0)),
        ("\ud800𠀀", (1, 1, 0, 0)),
    ],
)
def test_characters(text, counts):
    assert count_characters(text) == CharacterCounts(*counts)


@given(st.text(max_size=30))
def test_every_character_is_counted_once(text):
    counts = count_characters(text)
    assert sum(counts) == len(text)
    assert counts.spaces == sum(map(str.isspace, text))
    letters = sum(unicodedata.category(character)[0] in "LN" for character in text if not character.isspace())
    assert counts.letters_and_digits >= letters


@pytest.mark.parametrize(
    ("kind", "text", "count"),
    [
        ("html", '<p class="x">a<br/>b</p> &nbsp;&#8217; <!-- c --> <!DOCTYPE html>', 7),
        ("html", "a < b and c > d, x<y>, 3<4, R&D, AT&T; <EMAIL> &c.", 0),
        ("wiki", "[[Link|text]] {{cite web}} '''bold''' ''it''\n== Title ==\n{| table\n<ref name=x>", 7),
        ("wiki", "a[0][1], {x}, don't 'quote', a == b, [1] [2], ====", 0),
        ("latex", r"\frac{1}{2} \alpha + \begin{align} \mycommand{x} \to", 5),
        ("latex", r"C:\Users\name\Documents, \n, a\b, \\server\share, \to-do"[:-7], 0),
        ("javascript", "function f(a, b) { var x = 1; } $('#a'); document.getElementById('x').innerHTML = y => {", 6),
        ("javascript", "The function of the document. We let x be; a const. Window shopping, f(x) => y, $(5)", 0),
    ],
)
def test_markup(kind, text, count):
    counts = count_markup(text)
    assert counts.pop(kind) == count
    if count == 0:
        assert set(counts.values()) == {0}


def test_limits_of_symbols():
    text = "{}" + " word" * 19  # 2 braces in 20 words, 2 symbols in 78 visible characters
    assert list(Symbols().measures(document(text))) == [
        Measure("braces", 0.1, maximum=0.1, reason="braces"),
        Measure("symbols", 2 / 78, maximum=0.25, reason="symbols"),
        Measure("emoji", 0.0, maximum=0.05, reason="emoji"),
    ]
    assert Symbols().judge(document(text)) == KEEP
    assert Symbols(max_braces=0.0999).judge(document(text)) == ("braces", 0.1, 0.0999)
    assert Symbols(max_braces=0).judge(document("no braces here")) == KEEP
    assert Symbols(max_braces=0).judge(document("a { here")) == ("braces", 1 / 3, 0)
    assert Symbols().judge(document("abc!")) == KEEP
    assert Symbols().judge(document("ab!")) == ("symbols", 1 / 3, 0.25)
    assert Symbols().judge(document("x" * 19 + "😀")) == KEEP
    assert Symbols().judge(document("x" * 18 + "😀")) == ("emoji", 1 / 19, 0.05)
    assert Symbols(None, None, None).judge(document("{}{}!!😀")) == KEEP


def test_limits_of_markup():
    text = "<p>" + " word" * 9
    assert Markup().judge(document(text)) == KEEP
    assert Markup().judge(document("<p>" + " word" * 8)) == ("html_remains", 1 / 9, 0.1)
    assert Markup(max_html=None).judge(document("<p>")) == KEEP
    assert [measure.signal for measure in Markup().measures(document(text))] == ["html", "wiki", "latex", "javascript"]


@pytest.mark.parametrize("text", ["", " \n", "word", "\0", "\ud800", "漢字。", "ภาษาไทย", "हिन्दी में।", "العربية،"])
def test_short_texts_of_any_script_stay(text):
    assert Markup().judge(document(text)) == KEEP
    if text.strip() not in ("\0", "\ud800"):  # not a letter in these
        assert Symbols(max_symbols=0.34).judge(document(text)) == KEEP


def test_long_lines_take_linear_time():
    for awkward in ("<a " * 100_000, "[[" * 100_000, "{{a" * 100_000, "=" * 300_000, "'" * 300_000, "\\a" * 100_000):
        assert count_markup(awkward)["javascript"] == 0
    assert count_markup("function(" * 50_000)["javascript"] == 0


@pytest.mark.parametrize("limits", [{"max_braces": -1}, {"max_emoji": -0.1}])
def test_impossible_limits(limits):
    with pytest.raises(UserError, match="0 or more"):
        Symbols(**limits)
    with pytest.raises(UserError, match=r"Markup\.max_html is -1"):
        Markup(max_html=-1)
