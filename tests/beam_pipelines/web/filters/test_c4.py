"""C4's line and document rules, one by one, and mC4's."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.web.document import KEEP, Document
from beam_pipelines.web.filters.c4 import C4, LongLines
from t5x_style.errors import UserError

GOOD = ["The mill was built by the river.", "Does it still stand there today?", "It stands and it works!"]
SAID = 'He said "it does stand there."'


def document(text: str) -> Document:
    return Document("0" * 32, text, "", "", "", "en", 1.0, "{}")


def clean(*lines: str, **parameters):
    return C4(**parameters).apply(document("\n".join(lines)))


@pytest.mark.parametrize(
    ("line", "edit"),
    [
        ("A line with no mark at all", "lines_no_end_mark"),
        ("A line that goes on ...", "lines_no_end_mark"),
        ("A line that goes on…", "lines_no_end_mark"),
        ("A line that ends in a colon:", "lines_no_end_mark"),
        ("Only four words here.", "lines_few_words"),
        ("Only four words [1] [2].", "lines_few_words"),  # citations are none
        ("Here is one " + "x" * 1001 + " in the line.", "lines_long_word"),
        ("Please enable JavaScript to see this page.", "lines_javascript"),
        ("By going on you accept our Privacy Policy here.", "lines_policy"),
        ("This site uses cookies to remember what you bought.", "lines_policy"),
    ],
)
def test_lines_that_go(line, edit):
    outcome = clean(*GOOD, line)
    assert outcome.verdict == KEEP
    assert outcome.document.text == "\n".join(GOOD)
    assert outcome.edits[edit] == 1
    assert sum(count for name, count in outcome.edits.items() if name != "citations") == 1


@pytest.mark.parametrize(
    "line",
    [
        "Only five words are here.",
        SAID,
        "Here is one " + "x" * 1000 + " in the line.",
        "x " * 600 + "is a long line of short words.",
    ],
)
def test_lines_that_stay(line):
    assert clean(*GOOD, line).document.text == "\n".join([*GOOD, line])


def test_text_between_lines():
    outcome = clean(
        "", f"  {GOOD[0]}  ", "", " \t", GOOD[1] + "[12]", "Menu", GOOD[2][:-1] + "[edit] [citation needed]!"
    )
    assert outcome.document.text == "\n".join([*GOOD[:2], "It stands and it works !"])
    assert outcome.edits == {"lines_no_end_mark": 1, "citations": 3}  # blank lines are no lines
    assert clean(*GOOD[:2], "It stands and it works[1]!", citations=False).document.text.endswith("works[1]!")


def test_nothing_to_do_keeps_the_document_and_its_words():
    given_document = document("\n".join(GOOD))
    words = given_document.words
    outcome = C4().apply(given_document)
    assert outcome.document == given_document
    assert outcome.document.words is words
    assert not any(outcome.edits.values())


@pytest.mark.parametrize(
    ("lines", "parameters", "verdict"),
    [
        ([*GOOD, "Lorem Ipsum dolor sit amet there."], {}, ("lorem_ipsum", 1, 0)),
        ([*GOOD, "lorem ipsum"], {}, KEEP),  # the line had no mark
        ([*GOOD, "lorem ipsum"], {"whole_page": True}, ("lorem_ipsum", 1, 0)),
        ([*GOOD, "They wrote f() { and stopped right there."], {}, ("curly_brackets", 1, 0)),
        ([*GOOD, "if (x) {"], {}, KEEP),
        ([*GOOD, "if (x) {"], {"whole_page": True}, ("curly_brackets", 1, 0)),
        (
            [*GOOD, "In javascript they wrote f() { and stopped."],
            {},
            KEEP,
        ),  # the line goes before brackets are looked for
        ([*GOOD, "In javascript they wrote f() { and stopped."], {"javascript": False}, ("curly_brackets", 1, 0)),
        (GOOD, {}, KEEP),
        (GOOD[:2], {}, ("sentences_low", 2, 3)),
        ([GOOD[0], GOOD[1] + " " + GOOD[2]], {}, KEEP),  # two lines, three sentences
        (GOOD, {"min_sentences": 5}, ("sentences_low", 3, 5)),
        (["We saw it."] * 3, {}, ("sentences_low", 0, 3)),
        (["We saw it."] * 3, {"min_words": 3}, KEEP),
        (["We saw."] * 3, {"min_words": 3}, ("sentences_low", 0, 3)),
        (["We."] * 3, {"min_words": 0}, KEEP),
        ([], {}, ("sentences_low", 0, 3)),
        (["我们今天去了河边的老磨坊。"] * 3, {}, ("sentences_low", 0, 3)),
        (["We saw it with no mark"] * 3, {"end_marks": []}, KEEP),
        (["我们今天去了河边的老磨坊。"] * 3, {"end_marks": ["。"]}, KEEP),  # words, not parts between spaces
    ],
)
def test_documents(lines, parameters, verdict):
    outcome = clean(*lines, **parameters)
    assert outcome.verdict == verdict
    if verdict != KEEP:  # people look at what was rejected as it was
        assert outcome.document.text == "\n".join(lines)
        assert not outcome.edits


def test_signals_of_a_kept_document():
    measures = {measure.signal: measure.value for measure in clean(*GOOD, "Menu").measures}
    assert measures == {"lorem_ipsum": 0, "curly_brackets": 0, "kept_lines": 0.75, "sentences": 3}


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from('ab .?!"[]1{\n\t\u00a0。…\x00\ud800'), max_size=200))
def test_cleaning_is_stable(text):
    parameters = {"min_sentences": 0, "min_words": 2, "citations": False}
    outcome = C4(**parameters).apply(document(text))
    if outcome.verdict == KEEP:
        again = C4(**parameters).apply(outcome.document)
        assert again.document.text == outcome.document.text
        assert not any(again.edits.values())
        assert all(line in text for line in outcome.document.lines)


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"end_marks": [""]}, "end_marks"),
        ({"end_marks": "."}, "end_marks"),
        ({"policy_phrases": ["Terms of use"]}, "policy_phrases"),
        ({"min_words": -1}, "min_words"),
    ],
)
def test_impossible_parameters_are_refused(parameters, names):
    with pytest.raises(UserError, match=names):
        C4(**parameters)


def test_long_lines():
    short, long = "x" * 199, "x" * 200
    assert LongLines().judge(document("\n\n".join([long] * 3 + [short]))) == KEEP
    assert LongLines().judge(document("\n".join([long] * 2 + [short] * 9))) == ("long_lines_low", 2, 3)
    assert LongLines().judge(document("")) == ("long_lines_low", 0, 3)
    with pytest.raises(UserError, match="min_lines"):
        LongLines(min_lines=-1)
