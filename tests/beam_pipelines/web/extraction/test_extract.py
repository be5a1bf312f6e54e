"""Extraction as pure functions of a page: every method, odd pages, documents."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.web.document import Page
from beam_pipelines.web.extraction.extract import (
    Extract,
    Extracted,
    extract_page,
    plain_page,
    tidy,
    to_document,
    without_slow,
)
from t5x_style.errors import UserError

METHODS = ["auto", "landmarks", "resiliparse", "trafilatura", "justext"]


def page(content, number=0, html=True, charset=""):
    return Page(f"{number:032x}", "f.warc", number, "s", "http://x/", "2024", content, charset, html)


@pytest.mark.parametrize("method", METHODS)
def test_text_title_and_meta(warc, method):
    meta = "<meta name='kind' content='a &amp; b'><meta name=kind content=second><meta charset=utf-8><meta name=x>"
    found = extract_page(warc.html_page(warc.prose(1), "A &lt;title&gt;", meta), "utf-8", method)
    assert found.title == "A <title>"
    assert found.meta == {"kind": "a & b"}
    assert found.text.split() == warc.prose(1).split()
    assert found.encoding == "utf-8"
    assert found.extractor in (METHODS[1:4] if method == "auto" else [method])
    assert found.edits[f"by_{found.extractor}"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_navigation_is_left_out(warc, method):
    assert "Imprint" not in extract_page(warc.html_page(warc.prose(1)), "", method).text


@pytest.mark.parametrize("method", METHODS)
def test_the_encoding_reaches_every_extractor(method):
    sentence = "Съешь же ещё этих мягких французских булок, да выпей чаю, и приходи к нам в гости завтра вечером. "
    content = f"<html><body><p>{sentence * 8}</p></body></html>".encode("windows-1251")
    found = extract_page(content, "utf-8", method)
    assert sentence.strip() in found.text
    assert found.encoding == "cp1251"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0",
        b"\xff\xfe\xfa" * 50,
        b"<p>&#xD800; x &#0; y",
        b"<" * 1000,
        b"no markup at all",
        b"<html><body></body></html>",
        b"<frameset cols='*,*'><frame src=a><frame src=b><noframes>no frames</noframes></frameset>",
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body><p>a<br>b</i></p><![CDATA[ c ]]>",
        b"<!doctype html><!-- <html> -->",
        b"<svg><text>only a drawing</text></svg>",
        b"<p>\xed\xa0\x80 a surrogate in UTF-8</p>",
        b"\x00<\x00p\x00>",
        b"%PDF-1.4 \x80\x81\x82",
    ],
)
def test_odd_bytes_give_valid_text(content, method):
    found = extract_page(content, "", method)
    (found.text + found.title).encode("utf-8")
    assert "\0" not in found.text


@pytest.mark.parametrize("method", ["landmarks", "resiliparse", "trafilatura"])
def test_broken_xhtml_is_read(method, warc):
    prose = warc.prose(1)
    content = f"<?xml version='1.0' encoding='utf-8'?><html><body><p>{prose}<br><b>{prose}</p></body>".encode()
    assert extract_page(content, "", method).text.split() == (prose + " " + prose).split()


@pytest.mark.parametrize("method", ["auto", "landmarks", "resiliparse"])
def test_a_page_of_one_long_line(method):
    content = b"<html><body><p>" + b"word " * 2_000_000 + b"</p></body></html>"
    assert extract_page(content, "", method).text.count("word") == 2_000_000


def test_lists_under_an_article_are_kept_by_landmarks(warc):
    items = "".join(f"<li>Item number {number} of the list that is the content</li>" for number in range(20))
    content = f"<html><body><nav>menu</nav><article><ul>{items}</ul></article></body></html>".encode()
    assert extract_page(content, "", "landmarks").text.count("Item number") == 20
    assert extract_page(content, "", "auto").text.count("Item number") == 20


@given(st.binary(max_size=200))
def test_any_bytes(content):
    text = extract_page(b"<html><body><div>" + content, "", "auto", doubt=0).text
    assert text == tidy(valid_text(text))  # what Parquet and the stages may rely on


def test_tidy():
    assert tidy("a  \n\n\n\n b\r\nc\r\n\r\n\r\nd\t\n") == "a\n\n b\nc\n\nd"
    assert valid_text("a\ud800\0b") == "a?b"
    start = time.process_time()
    assert tidy("a" + " " * 200_000 + "b").endswith("b")  # a run of spaces is looked at once
    assert time.process_time() - start < 2


def test_documents():
    found = Extracted("text", "title", {"n": "ö"}, "landmarks", "cp1252")
    document, verdict = to_document(page(b""), found)
    assert verdict.reason == ""
    expected = {"title": "title", "meta": {"n": "ö"}, "extractor": "landmarks", "encoding": "cp1252"}
    assert json.loads(document.metadata) == {**expected, "file": "f.warc", "offset": 0}
    document, verdict = to_document(page(b""), without_slow(found, "timeout"))
    assert verdict.reason == ""
    assert json.loads(document.metadata)["slow_extractor"] == "timeout"
    assert to_document(page(b""), Extracted("", "title", {}))[1].reason == "no_text"


def test_plain_pages():
    found = plain_page(page("ä\xa0b\r\n".encode(), html=False))
    assert (found.text, found.extractor, found.encoding, found.edits) == ("ä\xa0b", "plain", "utf-8", {"by_plain": 1})
    assert plain_page(page(b"\xff ok", html=False)).encoding == "cp1252"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "boilerpipe"}, "choose one of auto, landmarks"),
        ({"timeout": 0}, "give more than 0"),
        ({"slow_timeout": -1.0}, "give more than 0"),
        ({"memory_mb": 255}, "need 256"),
        ({"doubt": 1.01}, "give 0"),
        ({"doubt": -0.01}, "give 0"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(UserError, match=message):
        Extract(**parameters)


def test_parameters_at_their_limits():
    assert Extract(memory_mb=256, doubt=0, timeout=0.1).name == "extract"
    assert Extract(method="auto", doubt=1.0).doubt == 1
