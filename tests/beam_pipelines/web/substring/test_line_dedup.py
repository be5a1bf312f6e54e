"""Line deduplication: against a set of lines, exempt lines, runs of lines, thresholds."""

import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit
from beam_pipelines.web.corpus_stage import Corpus
from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.substring import spans, windows
from beam_pipelines.web.substring.line_dedup import LineDedup
from beam_pipelines.web.substring.spans import Span
from t5x_style.errors import UserError


def document(text: str) -> Document:
    return Document("d", text, "web", "", "", "en", 1.0, "{}")


def run(stage: LineDedup, corpus: list[list[str]], folder: Path) -> list[list[str | None]]:
    """The texts after the stage, None for dropped ones; its jobs' functions called without a runner."""
    units, blocks, parts = [], defaultdict(list), [Unit(f"{p:05d}", "") for p in range(stage.hash_ranges)]
    for index, texts in enumerate(corpus):
        units.append(Unit(f"u{index}", "", {"index": index}))
        with open(folder / f"u{index}.keys", "wb") as file:
            writer = stage.start(file)
            for text in texts:
                writer.add(document(text))
            writer.close()
        emit = windows.EmitWindows(str(folder), stage.span, stage.hash_ranges)
        for part, block in emit(units[-1], frozenset(range(stage.hash_ranges))):
            blocks[part].append(block)
    for part, unit in enumerate(parts):
        windows.FindByWindows(str(folder), len(units), stage.span, "first")(unit, blocks[part])
    files = [str(folder / f"{part.name}.repeats") for part in parts]
    gather = spans.GatherSpans(str(folder), str(folder), files, [u.name for u in units], stage.span, copies=False)
    results: list[list[str | None]] = []
    for unit, texts in zip(units, corpus, strict=True):
        gather(unit)
        found = stage.load(str(folder), unit.arguments["index"], unit.arguments["index"] + 1)
        outcomes = [stage.apply_finding(document(text), found.get(row)) for row, text in enumerate(texts)]
        results.append([None if outcome.verdict.reason else outcome.document.text for outcome in outcomes])
    return results


def naive(corpus: list[list[str]], span: int, min_words: int) -> list[list[list[str]]]:
    """The stripped lines that stay, from a dictionary of runs."""
    first: dict[tuple[str, ...], tuple[int, int, int]] = {}
    result = []
    for index, texts in enumerate(corpus):
        result.append([])
        for row, text in enumerate(texts):
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            counted = [number for number, line in enumerate(lines) if len(line.split()) >= min_words]
            gone = set()
            for at in range(len(counted) - span + 1):
                run = tuple(lines[number].lower() for number in counted[at : at + span])
                seen = first.setdefault(run, (index, row, at))
                if seen[:2] != (index, row) or at - seen[2] >= span:
                    gone.update(counted[at : at + span])
            result[-1].append([line for number, line in enumerate(lines) if number not in gone])
    return result


LINE = st.sampled_from(["a", "A ", "b b", "  c", "", " ", "b B\t"])
TEXT = st.lists(LINE, max_size=9).map("\n".join)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(TEXT, max_size=4), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 2))
@example([["a\na\na\na\na\na\na"]], 3, 0)
def test_what_stays_is_what_a_dictionary_of_runs_leaves(tmp_path_factory, corpus, span, min_words):
    stage = LineDedup(span=span, line_min_words=min_words, min_characters=0)
    results = run(stage, corpus, tmp_path_factory.mktemp("keys"))
    left = [[[line.strip() for line in text.splitlines() if line.strip()] for text in texts] for texts in results]
    assert left == naive(corpus, span, min_words)


def test_the_example(tmp_path):
    stage = LineDedup(min_characters=0)
    assert run(stage, [["Menu\nOne."], ["menu\nTwo."]], tmp_path) == [["Menu\nOne."], ["Two."]]


def test_the_first_copy_stays_and_the_rest_of_the_text_is_untouched(tmp_path):
    one = "  Cookies?\n\nFirst  text,\tas it was.\r\nCOOKIES?\n"
    two = "Head\n\ncookies?\n\n    indented\nTail  "
    results = run(LineDedup(min_characters=0), [[one, two]], tmp_path)
    assert results == [["  Cookies?\n\nFirst  text,\tas it was.", "Head\n\n    indented\nTail  "]]


def test_runs_of_lines(tmp_path):
    """Two lines of a run that came before stay where the third is another; a line of two runs goes with either."""
    corpus = [["a\nb\nc\nd"], ["a\nb\nx", "b\nc\nd\ny\na\nb\nc", "B\n\n c\nd"]]
    stage = LineDedup(span=3, min_characters=0)
    assert run(stage, corpus, tmp_path) == [["a\nb\nc\nd"], ["a\nb\nx", "y", ""]]


def test_runs_of_sentences(tmp_path):
    """The paper's rule: any three sentences in a row that stand earlier, wherever the lines break."""
    one = "The mill stands. Dr. Smith owns it. It was sold. Nobody knows why."
    two = "Years ago. The mill\u00a0stands. Dr. Smith owns it. It was sold? Maybe."
    two += " THE MILL STANDS.\nDr. Smith owns it. It was sold."
    stage = LineDedup(unit="sentences", span=3, min_characters=0)
    left = "Years ago. The mill\u00a0stands. Dr. Smith owns it. It was sold? Maybe."
    assert run(stage, [[one, two]], tmp_path) == [[one, left]]


@pytest.mark.parametrize("language", ["", "en", "zh", "ja", "th"])
@pytest.mark.parametrize(
    "text", ["", "  ", "One.  Two! Three", "他说：“好。”然后走了。", "「はい。」と言った。帰った。"]
)
def test_sentences_of_languages(language, text):
    whole = document(text).replace(language=language)
    found = LineDedup(unit="sentences").lines(whole)
    assert "".join(text[line.start : line.stop] for line in found) == "".join(text.split(" ")) or " " in text.strip()
    assert [text[line.start : line.stop].lower() for line in found] == [line.key for line in found]


def test_exempt_lines_are_passed_over(tmp_path):
    """They are neither removed nor part of a run: a run goes around them."""
    corpus = [["one two\nx\nthree four"], ["one two\nthree four\nx"], ["x\nx"]]
    stage = LineDedup(span=2, line_min_words=2, min_characters=0)
    assert run(stage, corpus, tmp_path) == [["one two\nx\nthree four"], ["x"], ["x\nx"]]
    (tmp_path / "b").mkdir()
    characters = LineDedup(line_min_characters=4, min_characters=0)
    assert run(characters, [["abc\nabcd"], ["abc\nabcd"]], tmp_path / "b") == [["abc\nabcd"], ["abc"]]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x" * 20, True), ("x" * 19, False), ("a b c d e f g h i j k", True), ("y " * 9 + "longer_words", False)],
)
def test_documents_left_too_short_are_dropped(text, kept):
    stage = LineDedup(min_characters=20, min_words=1 if text[1] == "x" else 11)
    whole = document(f"Menu\n{text}\nmenu")
    outcome = stage.apply_finding(whole, [Span(0, 1, ""), Span(2, 3, "")])
    if kept:
        assert outcome.verdict == KEEP
        assert outcome.document.text == text
    else:
        assert outcome.verdict.reason == "too_short_after_cut"
        assert outcome.document.text == whole.text
        assert not outcome.edits


def test_edits_and_metadata():
    text = "Menu\n\nlogin\nA sentence that stays here.\nmenu"
    outcome = LineDedup().apply_finding(document(text), [Span(0, 2, ""), Span(3, 4, "")])
    assert outcome.document.text == "A sentence that stays here."
    assert dict(outcome.edits) == {"lines_cut": 3, "documents_cut": 1, "spans_cut": 2, "characters_cut": 17}
    ranges = json.loads(outcome.document.metadata)["line_dedup"]
    assert [text[start:stop] for start, stop in ranges] == ["Menu\n\nlogin", "menu"]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\0", "字" * 100_000, "a\u2028b\x0bc\x1cd\x85e\rf"])
def test_odd_texts(text):
    lines = LineDedup().lines(document(text))
    assert [text[line.start : line.stop].lower() for line in lines] == [line.key for line in lines]
    assert [line.key for line in lines] == [line.lower() for line in document(text).lines]


@pytest.mark.parametrize(
    "wrong", [{"unit": "words"}, {"span": 0}, {"line_min_words": -1}, {"min_words": -1}, {"hash_ranges": 2**16 + 1}]
)
def test_wrong_parameters(wrong):
    with pytest.raises(UserError, match=f"LineDedup.{next(iter(wrong))}"):
        LineDedup(**wrong)


def test_the_jobs_of_the_driver(tmp_path):
    """`find` through a runner, in more parts than were asked for, since one would not fit the memory bound."""
    stage = LineDedup(hash_ranges=3, max_memory_mb=1, min_characters=0)
    texts = [f"line {number}" for number in range(30_000)]
    with open(tmp_path / "u.keys", "wb") as file:
        writer = stage.start(file)
        writer.add(document("\n".join(texts)))
        writer.add(document("Line 7\nnew\nline 29999"))
        writer.close()
    jobs = []

    def new_job() -> tuple[str, str]:
        jobs.append(f"{len(jobs)}-job")
        return jobs[-1], str(tmp_path / jobs[-1])

    units = [Unit("u", "k", {"index": 0})]
    with Runner() as runner:
        corpus = Corpus(units, "k", str(tmp_path), "", "", runner, new_job, {})
        found = stage.find(corpus)
    assert jobs == ["0-job", "1-job"]
    symbols = (tmp_path / "u.keys").stat().st_size / 4
    parts = len(list((tmp_path / "0-job").glob("*.repeats")))
    assert parts == math.ceil(symbols * 40 / 1e6) > 3
    start, stop, _ = found.ranges["u"]
    assert stage.load(found.path, start, stop) == {1: [Span(0, 1, ""), Span(2, 3, "")]}
