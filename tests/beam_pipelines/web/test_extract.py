"""Extraction as pure functions, and in the child process that hangs and crashes cannot stop."""

import json
import os
import signal
import subprocess
import time

import pytest

from beam_pipelines.web.document import Page, Unreadable, valid_text
from beam_pipelines.web.extract import Extract, Extracted, extract_page, plain_page, tidy, to_document, without_slow
from beam_pipelines.web.extract_process import WINDOW, ExtractProcess

# The parser needs time that grows with the square of the depth: minutes for this page.
HANGS = b"<div>" * 200_000


def page(content, number=0, html=True, charset=""):
    return Page(f"{number:032x}", "f.warc", number, "s", "http://x/", "2024", content, charset, html)


@pytest.mark.parametrize("method", ["resiliparse", "trafilatura"])
def test_text_title_and_meta(warc, method):
    meta = "<meta name='kind' content='a &amp; b'><meta name=kind content=second><meta charset=utf-8><meta name=x>"
    found = extract_page(warc.html_page(warc.prose(1), "A &lt;title&gt;", meta), "utf-8", method)
    assert found.title == "A <title>"
    assert found.meta == {"kind": "a & b"}
    assert found.text.split() == warc.prose(1).split()


def test_navigation_is_left_out(warc):
    assert "Imprint" not in extract_page(warc.html_page(warc.prose(1)), "", "resiliparse").text


@pytest.mark.parametrize(
    ("content", "charset"),
    [
        ("<html><body><p>Grüße aus Köln</p></body></html>".encode("latin-1"), "iso-8859-1"),
        ("<html><head><meta charset=iso-8859-1></head><body><p>Grüße aus Köln</p></body></html>".encode("latin-1"), ""),
        ("<html><body><p>Grüße aus Köln</p></body></html>".encode(), "no-such-charset"),
        ("<html><body><p>Grüße aus Köln</p></body></html>".encode(), ""),
    ],
)
def test_encodings(content, charset):
    assert "Grüße aus Köln" in extract_page(content, charset, "resiliparse").text


@pytest.mark.parametrize("method", ["resiliparse", "trafilatura"])
@pytest.mark.parametrize(
    "content", [b"", b"\0\0", b"\xff\xfe\xfa" * 50, b"<p>&#xD800; x &#0; y", b"<" * 1000, b"no markup at all"]
)
def test_odd_bytes_give_valid_text(content, method):
    found = extract_page(content, "", method)
    (found.text + found.title).encode("utf-8")
    assert "\0" not in found.text


def test_tidy():
    assert tidy("a  \n\n\n\n b\r\nc\r\n\r\n\r\nd\t\n") == "a\n\n b\nc\n\nd"
    assert valid_text("a\ud800\0b") == "a?b"


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
    assert plain_page(page("ä\xa0b\r\n".encode(), html=False)).text == "ä\xa0b"
    assert plain_page(page(b"\xff ok", html=False)).encoding == "cp1252"


def texts(outcomes):
    return [
        outcome.text if isinstance(outcome, Extracted) else getattr(outcome, "reason", None) for outcome in outcomes
    ]


def good(number):
    return page(f"<html><body><p>text number {number}</p></body></html>".encode(), number)


def test_order_is_kept_and_what_needs_no_parser_passes():
    bad = Unreadable("0" * 32, "f", 0, "s", "", "", "truncated", None, "")
    items = [page(b"plain", html=False), bad, *map(good, range(2 * WINDOW + 3)), bad, page(b"end", html=False)]
    with ExtractProcess(Extract()) as process:
        found = list(process.map(items))
    assert [item for item, _ in found] == items
    expected = ["plain", None, *[f"text number {n}" for n in range(2 * WINDOW + 3)], None, "end"]
    assert texts(outcome for _, outcome in found) == expected


def test_pages_that_hang_are_killed_and_counted():
    items = [good(0), page(HANGS), good(1), page(HANGS), page(HANGS), good(2)]
    start = time.monotonic()
    with ExtractProcess(Extract(timeout=0.5)) as process:
        found = [outcome for _, outcome in process.map(items)]
    assert texts(found) == ["text number 0", "timeout", "text number 1", "timeout", "timeout", "text number 2"]
    assert found[1] == ("timeout", 0.5, 0.5)
    assert time.monotonic() - start < 30


def test_a_page_that_needs_too_much_memory():
    with ExtractProcess(Extract(memory_mb=300)) as process:
        found = texts(outcome for _, outcome in process.map([good(0), page(b"<p>w</p>" * 2_000_000), good(1)]))
    assert found[::2] == ["text number 0", "text number 1"]
    assert found[1] in ("memory", "crash", "parse_error_HTMLParserException")


def test_a_crash_is_counted_and_the_rest_goes_on():
    with ExtractProcess(Extract(timeout=60)) as process:

        def items():
            yield page(HANGS)
            time.sleep(0.3)  # by now the child is busy with the page
            os.kill(process._child.process.pid, signal.SIGKILL)
            yield from (good(0), good(1))

        found = [outcome for _, outcome in process.map(items())]
    assert texts(found) == ["crash", "text number 0", "text number 1"]
    assert found[0].value == -signal.SIGKILL


def test_large_pages_both_ways_do_not_block():
    body = b"<html><body><p>" + b"word " * 400_000 + b"</p></body></html>"
    with ExtractProcess(Extract()) as process:
        found = [outcome for _, outcome in process.map([page(body, number) for number in range(WINDOW + 4)])]
    assert {len(outcome.text) for outcome in found} == {400_000 * 5 - 1}


def test_no_child_is_left_behind():
    with ExtractProcess(Extract()) as process:
        next(process.map([good(0)]))
        child = process._child.process.pid
    assert subprocess.run(["ps", "-p", str(child)], capture_output=True, check=False).returncode != 0
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_child_that_cannot_start_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"), ExtractProcess(Extract()) as process:
        list(process.map([good(0)]))
