"""The cutting of ranges, its seams, and the stage's parameters, edits and metadata."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.text.words import split_words
from beam_pipelines.web.document import KEEP, Document, Verdict
from beam_pipelines.web.substring.cut import cut_ranges
from beam_pipelines.web.substring.exact_substring import ExactSubstring
from beam_pipelines.web.substring.spans import Span
from t5x_style.errors import UserError


def cut(text: str, *parts: str) -> str:
    """Cuts the parts, found one after the other."""
    ranges, at = [], 0
    for part in parts:
        start = text.index(part, at)
        at = start + len(part)
        ranges.append((start, at))
    return cut_ranges(text, ranges)


@pytest.mark.parametrize(
    ("text", "parts", "expected"),
    [
        ("a b c", ["b"], "a c"),
        ("a  b  c", ["b"], "a c"),
        ("a b c", ["a"], "b c"),
        ("a b c", ["c"], "a b"),
        ("a b c", ["a b c"], ""),
        ("  a b  ", ["a"], "b  "),  # a cut at an end takes the space there, the other end stays as it was
        ("  a b  ", ["b"], "  a"),
        ("a b c d e", ["b", "d"], "a c e"),
        ("a b c d e", ["a", "c", "e"], "b d"),
        ("a b c", ["a", "b", "c"], ""),
        ("a b c d", ["b", "c"], "a d"),
        ("a b\nc", ["b"], "a\nc"),
        ("a b\n\nc", ["b"], "a\n\nc"),
        ("a x\ny c", ["x\ny"], "a\nc"),  # left and right were on two lines
        ("a x\n \ny c", ["x\n \ny"], "a\n\nc"),
        ("a\n\nb\n\nc", ["b"], "a\n\nc"),
        ("a\nb\n    c", ["b"], "a\n    c"),  # indentation stays
        ("b\n    c", ["b"], "    c"),
        ("a\rb\rc", ["b"], "a\nc"),
        ("a\u2028b c", ["b"], "a\nc"),
        ("甲乙丙", ["乙"], "甲 丙"),
        ("", [], ""),
        (" \n", [], " \n"),
    ],
)
def test_seams(text, parts, expected):
    assert cut(text, *parts) == expected


def test_many_cuts_take_linear_time():
    """Every second of 400,000 words; 0.3 s, where copying the text at every cut would take minutes."""
    text = "ab cd\n" * 200_000
    start = time.process_time()
    assert cut_ranges(text, [(at, at + 2) for at in range(0, len(text), 6)]) == "cd\n" * 200_000
    assert time.process_time() - start < 5


@given(st.text(alphabet="ab \n\t\u00a0é字👩\u200d", max_size=40), st.data())
def test_what_is_left_are_the_other_words(text, data):
    """Nothing but whole words goes, none is glued to another, and those that share a line did so before."""
    places, at = [], 0
    for word in text.split():
        at = text.index(word, at)
        places.append((at, at + len(word)))
        at += len(word)
    chosen = [place for place in places if data.draw(st.booleans())]
    left = cut_ranges(text, chosen)
    assert left.split() == [text[start:stop] for start, stop in places if (start, stop) not in chosen]
    assert len(left) <= len(text)
    lines_before = [line.split() for line in text.splitlines()]
    for line in left.splitlines():
        assert any(is_subsequence(line.split(), before) for before in lines_before) or not line.split()


def is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


def document(text: str, metadata: str = '{"file": "f"}') -> Document:
    return Document("d", text, "web", "", "", "en", 1.0, metadata)


def test_a_document_without_a_finding_is_the_same_object():
    whole = document("short")
    outcome = ExactSubstring().apply_finding(whole, None)
    assert outcome.document is whole
    assert outcome.verdict == KEEP
    assert not outcome.edits


def test_edits_metadata_and_measures():
    text = "It  begins,\nthen a copied span of words and\u00a0this is how it ends."
    words = text.split()
    spans = [Span(words.index("copied"), words.index("and") + 1, "9" * 32), Span(len(words) - 1, len(words), "")]
    outcome = ExactSubstring().apply_finding(document(text), spans)
    left = "It  begins,\nthen a this is how it"
    assert outcome.document.text == left
    assert outcome.verdict == KEEP
    cut_characters = len(text) - len(left)
    expected = {"words_cut": 6, "documents_cut": 1, "spans_cut": 2, "characters_cut": cut_characters}
    assert dict(outcome.edits) == expected
    recorded = json.loads(outcome.document.metadata)
    assert recorded["file"] == "f"
    (start, stop, copy), (last, end, unknown) = recorded["exact_substring"]
    assert (text[start:stop], copy) == ("copied span of words and", "9" * 32)
    assert (text[last:end], unknown) == ("ends.", None)
    assert [measure.signal for measure in outcome.measures] == ["fraction_cut", "characters_left"]
    assert outcome.measures[0].value == cut_characters / len(text)
    assert outcome.document.words == left.split()


@pytest.mark.parametrize(("left", "dropped"), [(19, True), (20, False)])
def test_documents_left_too_short_are_dropped_with_their_text(left, dropped):
    text = "x" * left + " copied words"
    outcome = ExactSubstring().apply_finding(document(text), [Span(1, 3, "k")])
    if dropped:
        assert outcome.verdict == Verdict("too_short_after_cut", 19, 20)
        assert outcome.document.text == text  # kept whole for whoever looks at rejected documents
        assert not outcome.edits
        assert json.loads(outcome.document.metadata)["exact_substring"] == [[20, 32, "k"]]
    else:
        assert outcome.verdict == KEEP
        assert outcome.document.text == "x" * 20


def test_nothing_left_at_all_even_where_nothing_is_asked():
    outcome = ExactSubstring(min_characters=0).apply_finding(document("a b"), [Span(0, 2, "")])
    assert outcome.verdict == KEEP
    assert outcome.document.text == ""


@pytest.mark.parametrize(
    "text",
    ["我们用Python，他说：“好。”再见朋友", "ภาษาไทยไม่มีช่องว่าง", "हिन्दी में लिखा हुआ e\u0301te\u0301 👩\u200d👩\u200d👧 x"],
)
def test_cuts_are_at_word_borders_in_every_script(text):
    words = split_words(text)
    for start in range(len(words)):
        for stop in range(start + 1, len(words)):
            outcome = ExactSubstring(min_characters=0).apply_finding(document(text), [Span(start, stop, "")])
            left = words[:start] + words[stop:]
            assert "".join(outcome.document.text.split()) == "".join(left)
            ((first, last, _),) = json.loads(outcome.document.metadata)["exact_substring"]
            assert "".join(text[first:last].split()) == "".join(words[start:stop])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": "last"}, "'first' or 'none'"),
        ({"method": "magic"}, "auto, suffix_array, windows"),
        ({"length": 0}, "ExactSubstring.length is 0"),
        ({"min_characters": -1}, "min_characters is -1"),
        ({"max_memory_mb": 0}, "max_memory_mb is 0"),
        ({"hash_ranges": 0}, "hash_ranges is 0"),
        ({"hash_ranges": 65_537}, "at most 65536"),
    ],
)
def test_wrong_parameters(wrong, message):
    with pytest.raises(UserError, match=message):
        ExactSubstring(**wrong)
