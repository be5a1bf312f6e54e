"""The benchmark runs and says so plainly when its peer is not installed; differences are put down to their cause."""

import gzip
import importlib.util
import re

import pytest

from benchmarks import web_filters, web_filters_causes

pytestmark = pytest.mark.slow

PROSE = "The mill that was built by the river is still there. It has been standing with the bridge for years.\n" * 3


def record(number: int) -> bytes:
    """One page in a WARC record."""
    page = f"<html><body><p>{number} {PROSE}</p></body></html>".encode()
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x/{number}\r\nWARC-Date: 2024-05-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return gzip.compress(head.encode() + block + b"\r\n\r\n", mtime=0)


def test_last_line(tmp_path, capsys):
    (tmp_path / "pages.warc.gz").write_bytes(b"".join(map(record, range(3))))
    arguments = ["--pages", str(tmp_path / "*.warc.gz"), "--repeats", "1"]
    if importlib.util.find_spec("datatrove") is None:
        with pytest.raises(SystemExit) as ended:
            web_filters.main(arguments)
        assert ended.value.code == 0
        last = capsys.readouterr().out.strip().splitlines()[-1]
        assert last.startswith("skipped: ")
        assert "--peer_python" in last
    else:
        assert web_filters.main(arguments) == 0
        last = capsys.readouterr().out.strip().splitlines()[-1]
        assert re.fullmatch(
            r"ratio: [\d.]+x \(.*; ours [\d.,]+ documents/s; peer [\d.]+ documents/s; median of 1\)", last
        )


def page(text: str, words: list[str]) -> web_filters_causes.Page:
    return web_filters_causes.Page(text, words, [".", "!", "?"], frozenset(".,!?"))


def test_the_cause_of_a_difference_is_the_step_from_which_on_decisions_agree():
    ladder = web_filters_causes.quality_ladder()
    text = "1, 2, 3, 4 the and of to be " + "mill, " * 60
    shared = page(text, text.split())
    assert web_filters_causes.cause(shared, ladder, "") is None
    split = page(text, re.findall(r"\w+|,", text))  # punctuation as words: less than .8 have a letter
    ours, why = web_filters_causes.cause(split, ladder, "gopher_below_alpha_threshold")
    assert ours == ""
    assert "punctuation" in why
    assert web_filters_causes.cause(shared, ladder, "gopher_long_doc") == ("", "not explained")


def test_the_table(capsys):
    peer = {
        "words": [PROSE.split(), []],
        "end_marks": ["."],
        "punctuation": ["."],
        "decisions": {
            "GopherRepetition": ["dup_line_frac", ""],
            "GopherQuality": ["", "gopher_short_doc"],
            "C4": ["", ""],  # the second is wrong
            "FineWeb": ["char_dup_ratio", "empty"],
        },
        "c4_texts": [PROSE.strip(), ""],
    }
    assert web_filters_causes.print_differences([PROSE, " "], peer) == 1
    printed = capsys.readouterr().out
    assert printed.count(": 0 of 2 decisions differ, 0 with the peer's definitions") == 3
    assert "C4: 1 of 2 decisions differ, 1 with the peer's definitions" in printed
    assert "1 pages: ours sentences_low, datatrove kept: 1" in printed
    assert "1 of 1 texts of pages that both keep are identical" in printed
