"""A stage that crashes: the error names the stage and the document, on every way there, and has no frame of Beam."""

import traceback
from dataclasses import dataclass

import pytest

from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.stage_error import StageError, naming
from beam_pipelines.web import pipeline
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.dedup.exact_dedup import ExactDedup
from beam_pipelines.web.document import Document, Outcome, Page
from beam_pipelines.web.extraction.extract import Extract
from beam_pipelines.web.recipe import CleanWeb
from t5x_style.errors import UserError

BAD = "a.warc.gz/1"  # the end of the address of the document that all of these fail on


def _crash(url: str) -> None:
    if url.endswith(BAD):
        raise KeyError("no such\nthing")


@dataclass(frozen=True)
class CrashingPages:
    name: str = "pages"

    def page_measures(self, page):
        _crash(page.url)
        yield from ()


@dataclass(frozen=True)
class CrashingDocuments:
    name: str = "documents"

    def apply(self, document):
        _crash(document.url)
        return Outcome(document)


@dataclass(frozen=True)
class CrashingKeys(ExactDedup):
    name: str = "keys"

    def keys(self, documents):
        for document in documents:
            _crash(document.url)
        return super().keys(documents)


@dataclass(frozen=True)
class CrashingFindings(ExactDedup):
    name: str = "findings"

    def apply_finding(self, document, finding):
        _crash(document.url)
        return super().apply_finding(document, finding)


STAGES = [
    ("pages", [ReadWarc(), CrashingPages(), Extract()]),
    ("documents", [ReadWarc(), Extract(), CrashingDocuments()]),
    ("keys", [ReadWarc(), Extract(), CrashingKeys()]),
    ("findings", [ReadWarc(), Extract(), CrashingFindings()]),
]


def crash(stages: list, warc, tmp_path, workers: int = 1) -> tuple[str, str, int]:
    """(the error's message, its traceback, the bad record's offset) of a run over two files."""
    offset = warc.pages(tmp_path / "a.warc.gz", [warc.prose(number) for number in range(3)])[1]
    warc.pages(tmp_path / "b.warc.gz", [warc.prose(number) for number in range(3, 6)])
    inputs = [str(tmp_path / name) for name in ("a.warc.gz", "b.warc.gz")]
    with pytest.raises(StageError) as raised, Runner("local", workers) as runner:
        pipeline.clean(CleanWeb(stages), inputs, str(tmp_path / "out"), runner)
    return str(raised.value), "".join(traceback.format_exception(raised.value)), offset


@pytest.mark.parametrize(("name", "stages"), STAGES, ids=[name for name, _ in STAGES])
def test_the_error_names_stage_and_document(name, stages, warc, tmp_path):
    message, trace, offset = crash(stages, warc, tmp_path)
    kind = f"{__name__}.Crashing{name.capitalize()}"
    at, url = ("a batch up to document", "a.warc.gz/2") if name == "keys" else ("document", BAD)
    assert message.startswith(f"stage '{name}' ({kind}) failed on {at} ")
    assert message.endswith(f", http://x/{url}: KeyError: 'no such\\nthing'")
    assert ": a.warc.gz, byte " in message
    assert name == "keys" or f"byte {offset}," in message
    assert "in _crash" in trace
    assert "apache_beam" not in trace


def test_the_same_from_a_worker_process(warc, tmp_path):
    message, trace, offset = crash(STAGES[1][1], warc, tmp_path, workers=2)
    assert f"a.warc.gz, byte {offset}, http://x/{BAD}: KeyError" in message
    assert "in _crash" in trace
    assert "apache_beam" not in trace


def document(metadata: str) -> Document:
    return Document("0f", "text", "web", "http://x/", "", "", 0.0, metadata)


@pytest.mark.parametrize(
    ("metadata", "place"),
    [
        ('{"file": "a", "offset": 0}', "a, byte 0, http://x/"),
        ('{"file": "a"}', "a, http://x/"),
        ("[1]", "http://x/"),
        ("", "http://x/"),
        ("{", "http://x/"),
    ],
)
def test_metadata_of_any_kind(metadata, place):
    with (
        pytest.raises(StageError, match=f"document 0f: {place}: OSError: x$"),
        naming(ExactDedup(), document(metadata)),
    ):
        raise OSError("x")


def test_long_messages_are_cut_and_causes_kept():
    page = Page("0f", "a", 7, "web", "", "", b"", "", True)
    with pytest.raises(StageError) as raised, naming(ExactDedup(), page):
        raise ValueError("x" * 10_000)
    assert len(str(raised.value)) < 700
    assert "document 0f: a, byte 7: ValueError: xxx" in str(raised.value)
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("kind", [UserError, KeyboardInterrupt])
def test_what_is_no_crash_passes(kind):
    with pytest.raises(kind), naming(ExactDedup(), document("")):
        raise kind("x")
