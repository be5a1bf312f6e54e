"""TidyText: what goes, what stays, what is counted."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.document import Document
from beam_pipelines.web.text.tidy import TidyText
from t5x_style.errors import UserError


def tidy(text, **parameters):
    outcome = TidyText(**parameters).apply(Document("", text, "", "", "", "", 0.0, ""))
    assert outcome.verdict.reason == ""
    return outcome.document.text, outcome.edits


@pytest.mark.parametrize(
    ("text", "expected", "urls"),
    [
        ("see https://a.example/b?c=d#e for more", "see for more", 1),
        ("http://a.example/b", "", 1),
        ("https://a.example/b starts a line", "starts a line", 1),
        ("it ends with www.a.example.", "it ends with.", 1),
        ("HTTP://A.EXAMPLE/ loud", "loud", 1),
        ("both (http://a.example) and [www.b.example] and <https://c.example/>.", "both and and.", 3),
        ("(see http://a.example/b)", "(see)", 1),
        ("http://en.example/wiki/A_(b), next", ", next", 1),
        ("请看http://a.example/b谢谢", "请看谢谢", 1),
        ("https://ru.example/wiki/Москва город", "город", 1),
        ("“http://a.example”", "“”", 1),
        ("a http://x.example http://y.example b", "a b", 2),
        (
            "example.org, a.b@c.de, 10.0.0.1, ftp://a.example stay",
            "example.org, a.b@c.de, 10.0.0.1, ftp://a.example stay",
            0,
        ),
        ("awww.so sweet http:// www. stay", "awww.so sweet http:// www. stay", 0),
    ],
)
def test_addresses(text, expected, urls):
    found, edits = tidy(text)
    assert found == expected
    assert edits.get("urls", 0) == urls
    assert tidy(text, remove_urls=False) == (text, {})


@pytest.mark.parametrize(
    ("text", "newlines", "expected"),
    [
        ("a\n\nb", 2, "a\n\nb"),
        ("a\n\n\nb", 2, "a\n\nb"),
        ("a\n\n\n\nb", 3, "a\n\n\nb"),
        ("a\n\nb", 1, "a\nb"),
        ("a \n \n\t\n b", 2, "a\n\n b"),
        ("\n\na\n", 2, "a"),
    ],
)
def test_blank_lines(text, newlines, expected):
    found, edits = tidy(text, newlines=newlines)
    assert found == expected
    assert edits == ({"characters_removed": len(text) - len(expected)} if text != expected else {})


def test_spaces_and_line_ends_are_counted():
    assert tidy("a\u00a0b\u3000c\u2009d\te\r\nf\u2028g") == ("a b c d\te\nf\ng", {"line_ends": 2, "spaces": 3})


def test_an_address_between_blank_lines_leaves_two_newlines():
    assert tidy("a\n\nhttp://x.example\n\nb") == ("a\n\nb", {"urls": 1, "characters_removed": 2})


@pytest.mark.parametrize("text", ["", " ", "word", "日本語。", "a\0b", "x" * 100_000, "a\ud800b"])
def test_odd_texts(text):
    assert tidy(text)[0] == text.strip()


def test_what_stays_the_same_keeps_its_words():
    document = Document("", "plain text", "", "", "", "", 0.0, "")
    assert document.words
    assert "words" in TidyText().apply(document).document.__dict__


@given(st.text(alphabet="a.:/ \n\r\t\u00a0()", max_size=60))
def test_twice_is_once_and_limits_hold(text):
    once, _ = tidy(text)
    assert tidy(once) == (once, {})
    assert "\n\n\n" not in once
    assert "\r" not in once


@pytest.mark.parametrize(
    "text", ["http://" + "(" * 100_000, "www." + "a(" * 100_000, "http://a" + "." * 100_000, "a" + " " * 100_000 + "b"]
)
def test_time_is_linear(text):
    start = time.process_time()
    tidy(text)
    assert time.process_time() - start < 2


def test_bad_parameters():
    with pytest.raises(UserError, match="newlines is 0"):
        TidyText(newlines=0)
