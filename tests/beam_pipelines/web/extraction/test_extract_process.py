"""The child process that hangs, crashes and memory cannot stop, and the slow extractor's failures in `auto`."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from beam_pipelines.web.document import Page, Unreadable
from beam_pipelines.web.extraction import extract_process
from beam_pipelines.web.extraction.extract import Extract, Extracted
from beam_pipelines.web.extraction.extract_process import WINDOW, ExtractProcess

SINGLE = ("resiliparse", "landmarks", "trafilatura", "justext")
# The parser needs time that grows with the square of the depth: minutes for this page.
HANGS = b"<div>" * 200_000


@pytest.fixture(autouse=True)
def _no_idle_children():
    extract_process._IDLE.end_all()
    yield
    extract_process._IDLE.end_all()


def page(content, number=0, html=True, charset=""):
    return Page(f"{number:032x}", "f.warc", number, "s", "http://x/", "2024", content, charset, html)


def good(number):
    return page(f"<html><body><p>text number {number}</p></body></html>".encode(), number)


def texts(outcomes):
    return [
        outcome.text if isinstance(outcome, Extracted) else getattr(outcome, "reason", None) for outcome in outcomes
    ]


def run(parameters, items):
    with ExtractProcess(parameters) as process:
        return [outcome for _, outcome in process.map(items)]


def alive(pid):
    """Whether the process runs; ended but not waited for counts as ended."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and "Z" not in state


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_order_is_kept_and_what_needs_no_parser_passes():
    bad = Unreadable("0" * 32, "f", 0, "s", "", "", "truncated", None, "")
    items = [page(b"plain", html=False), bad, *map(good, range(2 * WINDOW + 3)), bad, page(b"end", html=False)]
    with ExtractProcess(Extract()) as process:
        found = list(process.map(items))
    assert [item for item, _ in found] == items
    expected = ["plain", None, *[f"text number {n}" for n in range(2 * WINDOW + 3)], None, "end"]
    assert texts(outcome for _, outcome in found) == expected


@pytest.mark.parametrize("method", [pytest.param("resiliparse", marks=pytest.mark.slow), "auto"])
def test_pages_that_hang_are_killed_and_counted(method):
    items = [good(0), page(HANGS), good(1), page(HANGS), page(HANGS), good(2)]
    start = time.monotonic()
    found = run(Extract(method=method, timeout=0.5, doubt=0), items)
    assert texts(found) == ["text number 0", "timeout", "text number 1", "timeout", "timeout", "text number 2"]
    assert found[1] == ("timeout", 0.5, 0.5)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("method", [*(pytest.param(name, marks=pytest.mark.slow) for name in SINGLE), "auto"])
def test_markup_nested_100_000_deep_is_contained(method):
    deep = page(b"<html><body>" + b"<div><b>x</b>" * 100_000 + b"</div>" * 100_000)
    found = texts(run(Extract(method=method, timeout=2, slow_timeout=2), [good(0), deep, good(1)]))
    assert found[0] in ("text number 0", "")  # jusText calls a few words boilerplate
    assert found[2] in ("text number 1", "")


def test_a_page_that_needs_too_much_memory():
    found = texts(run(Extract(memory_mb=300), [good(0), page(b"<p>w</p>" * 2_000_000), good(1)]))
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
    found = run(Extract(), [page(body, number) for number in range(WINDOW + 4)])
    assert {len(outcome.text) for outcome in found} == {400_000 * 5 - 1}


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("while True: pass", "timeout"),
        ("import os; os.abort()", "crash"),
        ("raise RecursionError", "parse_error_RecursionError"),
        ("raise MemoryError", "memory"),
    ],
)
def test_where_the_slow_extractor_fails_the_fast_text_is_kept_and_counted(tmp_path, monkeypatch, code, failure):
    (tmp_path / "trafilatura.py").write_text(f"def extract(html, **_):\n    {code}\n")
    monkeypatch.syspath_prepend(tmp_path)  # the child imports this one
    # So little text is always in doubt; what follows the first page was on its way when the child ended.
    found = run(Extract(method="auto", slow_timeout=0.3, name="failing"), map(good, range(3)))
    assert texts(found) == [f"text number {number}" for number in range(3)]
    for outcome in found:
        assert outcome.slow_failure == failure
        assert outcome.extractor in ("resiliparse", "landmarks")
        assert outcome.edits == {f"by_{outcome.extractor}": 1, f"slow_{failure}": 1}


def test_the_slow_extractor_is_counted_where_it_reads_and_not_imported_where_it_does_not(tmp_path, monkeypatch):
    (tmp_path / "trafilatura.py").write_text("def extract(html, **_):\n    return 'slow text ' * 50\n")
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = run(Extract(method="auto", name="slow"), [good(0)])
    assert found.extractor == "trafilatura"
    assert found.edits == {"by_trafilatura": 1, "slow_read": 1}
    (tmp_path / "trafilatura.py").write_text("raise SystemExit(9)\n")
    (found,) = run(Extract(method="auto", doubt=0, name="fast"), [good(0)])
    assert found.text == "text number 0"


def test_the_next_unit_has_the_same_child():
    pids = []
    for number in range(3):
        with ExtractProcess(Extract()) as process:
            assert texts(outcome for _, outcome in process.map([good(number)])) == [f"text number {number}"]
            pids.append(process._child.process.pid)
    assert len(set(pids)) == 1
    with ExtractProcess(Extract(memory_mb=2048)) as process:  # other parameters, another child
        list(process.map([good(0)]))
        assert process._child.process.pid not in pids


def test_units_at_the_same_time_have_a_child_each():
    with ExtractProcess(Extract()) as first, ExtractProcess(Extract()) as second:
        assert texts(outcome for _, outcome in first.map([good(0)])) == ["text number 0"]
        assert texts(outcome for _, outcome in second.map([good(1)])) == ["text number 1"]
        assert first._child is not second._child


def test_a_child_goes_on_in_another_thread():
    def unit():
        assert texts(run(Extract(), [good(0)])) == ["text number 0"]
        children.append(extract_process._IDLE._children[0].process.pid)

    children: list[int] = []
    for _ in range(2):
        thread = threading.Thread(target=unit)
        thread.start()
        thread.join()
    assert len(children) == 2
    assert children[0] == children[1]


def test_a_unit_that_stops_early_ends_its_child():
    with ExtractProcess(Extract()) as process:
        items = process.map([good(0), page(HANGS)])
        next(items)
        child = process._child.process.pid
        assert alive(child)
    assert not alive(child)
    assert not extract_process._IDLE._children


def test_an_idle_child_ends_after_a_while(monkeypatch):
    monkeypatch.setattr(extract_process, "IDLE_SECONDS", 0.2)
    with ExtractProcess(Extract()) as process:
        list(process.map([good(0)]))
        child = process._child.process.pid
    assert until(lambda: not alive(child))
    assert until(lambda: not extract_process._IDLE._children)


def test_an_idle_child_that_died_is_not_used():
    with ExtractProcess(Extract()) as process:
        list(process.map([good(0)]))
        child = process._child
    child.process.kill()
    child.process.wait()
    assert texts(run(Extract(), [good(1)])) == ["text number 1"]


WORKER = """
import sys, threading
from beam_pipelines.web.document import Page
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.extraction.extract_process import ExtractProcess
page = Page("", "f", 0, "s", "", "", b"<div>" * 400_000, "", True)
with ExtractProcess(Extract(timeout=300)) as process:
    def pages():
        yield page
        print(process._child.process.pid, flush=True)
        threading.Event().wait()
    list(process.map(pages()))
"""


def test_a_killed_worker_takes_a_child_deep_in_a_page_along():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, env=environment) as worker:
        child = int(worker.stdout.readline())
        time.sleep(0.5)  # the child is parsing
        assert alive(child)
        worker.kill()
    try:
        assert until(lambda: not alive(child))
    finally:
        if alive(child):
            os.kill(child, signal.SIGKILL)


def test_a_child_that_cannot_start_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(RuntimeError, match="did not start"), ExtractProcess(Extract()) as process:
        list(process.map([good(0)]))
