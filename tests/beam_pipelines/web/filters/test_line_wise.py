"""Line-wise corrections: every rule with what it must take and what it must leave."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.filters.line_wise import LineWise
from t5x_style.errors import UserError

PROSE = "\n\n".join(
    f"Paragraph {name} has a good many words, so that a short line more or less is not a twentieth of them all."
    for name in ("one", "two", "three", "four", "five", "six")
)


def document(text: str) -> Document:
    return Document("0" * 32, text, "", "", "", "en", 1.0, "{}")


def correct(line: str, **parameters):
    """What is left of a line among prose, and the edits."""
    outcome = LineWise(**parameters).apply(document(f"{PROSE}\n{line}\nThis is the end."))
    assert outcome.verdict == KEEP
    text = outcome.document.text
    assert text.startswith(PROSE)
    assert text.endswith("\nThis is the end.")
    left = text[len(PROSE) : -len("\nThis is the end.")]
    return left.removeprefix("\n") if left else None, dict(outcome.edits)


@pytest.mark.parametrize(
    ("line", "edit"),
    [
        ("Home", "lines_one_word"),
        ("BUY IT NOW", "lines_upper_case"),
        ("ÄÖÜ ÄÖÜ ÄÖÜ", "lines_upper_case"),
        ("АБВ ГДЕ", "lines_upper_case"),
        ("12 345", "lines_numeric"),
        ("1,234.5 7", "lines_numeric"),
        ("3 likes", "lines_counter"),
        ("1 Like", "lines_counter"),
        ("3.5K followers", "lines_counter"),
        ("12 replies", "lines_counter"),
        ("(1,024 views)", "lines_counter"),
        ("10M+ downloads", "lines_counter"),
        ("3\u00a0comments", "lines_counter"),
    ],
)
def test_lines_that_go(line, edit):
    assert correct(line) == (None, {edit: 1})


@pytest.mark.parametrize(
    "line",
    [
        "Home page",
        "ABc de",  # a third of the characters
        "AB c",  # half of the characters is kept
        "12 345 b",
        "3 likes each day",
        "he likes",
        "three likes",
        "2 rivers",
        "  indented line",
    ],
)
def test_lines_that_stay(line):
    assert correct(line) == (line, {})


@pytest.mark.parametrize(
    ("line", "left", "edits"),
    [
        ("Sign-in to see the price", "to see the price", {"sign_in": 1}),
        ("SIGN IN: to see the price", "to see the price", {"sign_in": 1}),
        ("sign-in", None, {"sign_in": 1}),
        ("Sign-ins are open now", "Sign-ins are open now", {}),
        ("You can sign-in here now", "You can sign-in here now", {}),  # not at the start
        ("The mill by the river Read more...", "The mill by the river", {"read_more": 1}),
        ("The mill by the river read more…", "The mill by the river", {"read_more": 1}),
        ("Read more... about the mill", "Read more... about the mill", {}),  # not at the end
        ("Please read more", "Please read more", {}),
        ("Read more...", None, {"read_more": 1}),
        ("You have 3 items in cart now", "You have 3 now", {"items_in_cart": 1}),
        ("3 items in cart", None, {"items_in_cart": 1, "lines_one_word": 1}),  # what is left is one word
        (
            "Sign-in 3 items in cart for you Read more...",
            "3 for you",
            {"sign_in": 1, "items_in_cart": 1, "read_more": 1},
        ),
        ("a b c d e f g h Read more...", "a b c d e f g h", {"read_more": 1}),  # ten words
        ("a b c d e f g h i Read more...", "a b c d e f g h i Read more...", {}),  # eleven
    ],
)
def test_phrases(line, left, edits):
    assert correct(line) == (left, edits)


def test_a_document_that_loses_over_a_twentieth_of_its_words_goes():
    text = " ".join(["word"] * 95)
    kept = LineWise().apply(document("\n".join([text, *["Home"] * 5])))
    assert kept.verdict == KEEP  # 5 of 100
    assert kept.document.text == text
    assert kept.measures[0][:2] == ("removed_words", pytest.approx(0.05))
    gone = document("\n".join([text, *["Home"] * 6]))
    outcome = LineWise().apply(gone)
    assert outcome.verdict.reason == "removed_words_high"
    assert outcome.verdict.value == pytest.approx(6 / 101)
    assert outcome.document is gone
    assert not outcome.edits


def test_untouched_documents_keep_their_words():
    given_document = document(PROSE)
    words = given_document.words
    outcome = LineWise().apply(given_document)
    assert outcome.document is given_document
    assert outcome.document.words is words


def test_paragraphs_stay_apart_by_one_blank_line():
    paragraphs = PROSE.split("\n\n")
    text = f"Home\n\n{paragraphs[0]}\n\nMenu\n\nNext\n\n" + "\n\n".join(paragraphs[1:])
    assert LineWise().apply(document(text)).document.text == PROSE


@pytest.mark.parametrize("text", ["", " \n ", "\x00", "\ud800", "word", "x" * 1_000_000])
def test_odd_texts(text):
    outcome = LineWise().apply(document(text))
    assert outcome.verdict.reason == ("removed_words_high" if text.split() else "")


@pytest.mark.parametrize(
    "line",
    [
        "1 " * 200_000 + "x",
        "1, " * 200_000 + "x",
        "a" + " " * 300_000 + "items in cart b",
        "a b" + "\t" * 300_000 + "c",
    ],
)
def test_time_is_linear_in_long_lines(line):
    """Each took minutes when a pattern could begin anywhere in a run of digits or spaces."""
    text = f"{PROSE}\nhello read more... and items in cart or so, it is said\n{line}"
    started = time.process_time()
    LineWise(max_removed_words=1.0).apply(document(text))
    assert time.process_time() - started < 5


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["items in cart", "read more...", " ", "  ", "a", "(", "1", ".", ","]), max_size=4).map(
        "".join
    )
)
def test_phrases_and_numbers_as_the_plain_patterns_find_them(line):
    """Against patterns without the care for long runs."""
    stripped = line.strip()
    expected = re.sub(r"\s*(?<!\w)read[ -]more\.\.\.\Z", "", stripped).strip()
    expected = re.sub(r"\s*(?<!\w)items[ -]in[ -]cart(?!\w)\s*", " ", expected).strip()
    if re.fullmatch(r"[\d.,\s]*\d[\d.,\s]*", expected):
        expected = ""
    rules = LineWise(max_removed_words=1.0, min_line_words=0, max_upper_case=1.0)
    found = rules.apply(document(line)).document.text
    assert found == expected or (found == line and expected == stripped)


def test_scripts_without_spaces_have_words():
    text = "我们今天去了河边的老磨坊。\n它在那里已经三百年了。"
    assert LineWise().apply(document(text)).document.text == text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Home", "3 likes", "12", "BUY NOW", "a word", "", " ", "我们 好。", "Read more..."]),
        max_size=12,
    )
)
def test_correcting_twice_is_correcting_once(lines):
    rules = LineWise(max_removed_words=1.0)
    once = rules.apply(document("\n".join(lines))).document
    again = rules.apply(once)
    assert again.document.text.strip() == once.text.strip()
    assert not again.edits


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"max_upper_case": 50}, "max_upper_case"),
        ({"max_removed_words": -0.1}, "max_removed_words"),
        ({"min_line_words": -1}, "min_line_words"),
        ({"strip_end": [" "]}, "strip_end"),
        ({"counted": "likes"}, "counted"),
    ],
)
def test_impossible_parameters_are_refused(parameters, names):
    with pytest.raises(UserError, match=names):
        LineWise(**parameters)


def test_empty_lists_switch_rules_off():
    rules = LineWise(counted=[], strip_start=[], strip_end=[], strip_anywhere=[], max_removed_words=1.0)
    text = "3 likes\nSign-in now\nitems in cart\nand read more..."
    assert rules.apply(document(text)).document.text == text
