"""Why our filters and datatrove's decide differently on the same texts.

For every filter there is a ladder: ours as it is, then with the peer's words, then also with its lines, then also with
its other definitions, each step one more. A document whose decisions differ is put down to the first step from which on
they agree. What still differs on the last step is not explained.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from beam_pipelines.web.document import Document, Measure, take_measures
from beam_pipelines.web.filters.c4 import C4
from beam_pipelines.web.filters.c4 import END_MARKS as C4_END_MARKS
from beam_pipelines.web.filters.fineweb import FineWebQuality
from beam_pipelines.web.filters.gopher_quality import GopherQuality
from beam_pipelines.web.filters.gopher_repetition import GopherRepetition, duplicates


class Page(NamedTuple):
    """One text and what the peer makes of it."""

    text: str
    words: list[str]
    end_marks: list[str]
    punctuation: frozenset[str]


Judge = Callable[[Page], str]  # -> reason of the rejection, '' if kept
Ladder = list[tuple[str, Judge]]  # what the peer does, ours doing so too; the first is ours as it is


def document(page: Page, words: Sequence[str] | None = None, lines: Sequence[str] | None = None) -> Document:
    """A document whose words and lines are set to the peer's, where given."""
    made = Document("", page.text, "", "", "", "en", 1.0, "{}")
    if words is not None:
        made.__dict__["words"] = made.__dict__["normalised_words"] = list(words)
    if lines is not None:
        made.__dict__["lines"] = list(lines)
    return made


def repetition_ladder() -> Ladder:
    """GopherRepetition's."""
    stage = GopherRepetition()

    def lines(page: Page) -> list[str]:
        return re.split(r"\n+", page.text)

    def measures(page: Page, once: bool) -> Iterator[Measure]:
        paragraphs = re.split(r"\n{2,}", page.text.strip())
        share, characters = duplicates(paragraphs)
        for measure in stage.measures(document(page, page.words, lines(page))):
            value, match = measure.value, re.fullmatch(r"top_(\d+)_gram", measure.signal)
            if measure.signal == "duplicate_paragraphs":
                value = share
            elif measure.signal == "duplicate_paragraph_characters":
                value = characters / len(page.text)
            elif once and match and not value and len(page.words) >= int(match[1]):
                value = len(" ".join(page.words[: int(match[1])])) / len(page.text)
            yield measure._replace(value=value)

    return [
        ("", lambda page: stage.judge(document(page)).reason),
        (
            "spaCy splits off punctuation: more and shorter words, some n-grams equal that differ in punctuation",
            lambda page: stage.judge(document(page, page.words)).reason,
        ),
        (
            "lines are compared as they stand, so indented ones are no duplicates of others",
            lambda page: stage.judge(document(page, page.words, lines(page))).reason,
        ),
        (
            "paragraphs are compared as they stand, with the spaces around them",
            lambda page: take_measures(measures(page, once=False))[0].reason,
        ),
        (
            "the most frequent n-gram may occur once: a short text is then its own repetition",
            lambda page: take_measures(measures(page, once=True))[0].reason,
        ),
    ]


def quality_ladder() -> Ladder:
    """GopherQuality's."""
    stage = GopherQuality()

    def measures(page: Page) -> Iterator[Measure]:
        counted = [word for word in page.words if not page.punctuation.issuperset(word)]
        for measure in stage.measures(document(page, page.words, page.text.splitlines())):
            if measure.signal == "words":
                measure = measure._replace(value=len(counted))
            elif measure.signal == "mean_word_length":
                measure = measure._replace(value=sum(map(len, counted)) / max(len(counted), 1))
            yield measure

    return [
        ("", lambda page: stage.judge(document(page)).reason),
        (
            "spaCy splits off punctuation, and words of punctuation alone count among those without a letter",
            lambda page: stage.judge(document(page, page.words)).reason,
        ),
        (
            "blank lines count as lines",
            lambda page: stage.judge(document(page, page.words, page.text.splitlines())).reason,
        ),
        (
            "words of punctuation alone count neither among the words nor for their length",
            lambda page: take_measures(measures(page))[0].reason,
        ),
    ]


def c4_ladder() -> Ladder:
    """C4's."""
    paper = {"min_words": 3, "min_sentences": 5}
    marks = C4(**paper, end_marks=[*C4_END_MARKS, "'"])
    return [
        ("", lambda page: C4().apply(document(page)).verdict.reason),
        (
            "the paper's >= 3 words a line and >= 5 sentences, not the >= 5 and >= 3 of the code that made C4",
            lambda page: C4(**paper).apply(document(page)).verdict.reason,
        ),
        ("' ends a line too", lambda page: marks.apply(document(page)).verdict.reason),
    ]


def fineweb_ladder() -> Ladder:
    """FineWebQuality's."""
    stage = FineWebQuality()

    def lines(page: Page) -> list[str]:
        return [line for line in page.text.split("\n") if line.strip()]

    return [
        ("", lambda page: stage.judge(document(page)).reason),
        (
            "spaCy splits off punctuation: more words for the same newlines",
            lambda page: stage.judge(document(page, page.words)).reason,
        ),
        (
            "lines are taken as they stand: indentation makes them longer and keeps them from being duplicates",
            lambda page: stage.judge(document(page, page.words, lines(page))).reason,
        ),
        (
            "quotes end no sentence, marks of more scripts do",
            lambda page: FineWebQuality(end_marks=page.end_marks).judge(document(page, page.words, lines(page))).reason,
        ),
    ]


def cause(page: Page, ladder: Ladder, peer: str) -> tuple[str, str] | None:
    """(our reason, cause of the difference); None where the decisions agree."""
    reasons = [judge(page) for _, judge in ladder]
    agree = [bool(reason) == bool(peer) for reason in reasons]
    if agree[0]:
        return None
    if not agree[-1]:
        return reasons[0], "not explained"
    first = len(agree) - 1
    while agree[first - 1]:
        first -= 1
    return reasons[0], ladder[first][0]


def print_differences(texts: Sequence[str], peer: dict[str, Any]) -> int:
    """Prints every decision that differs, by cause; returns how many have none.

    Args:
      texts: of the pages.
      peer: what `web_filters.run_peer` returned for them, with details.
    """
    punctuation = frozenset(peer["punctuation"])
    pages = [Page(text, words, peer["end_marks"], punctuation) for text, words in zip(texts, peer["words"])]
    ladders = {
        "GopherRepetition": repetition_ladder(),
        "GopherQuality": quality_ladder(),
        "C4": c4_ladder(),
        "FineWeb": fineweb_ladder(),
    }
    unexplained = 0
    for name, ladder in ladders.items():
        found: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(lambda: defaultdict(list))
        for number, (page, theirs) in enumerate(zip(pages, peer["decisions"][name])):
            difference = cause(page, ladder, theirs)
            if difference is not None:
                found[difference[1]][difference[0] or "kept", theirs or "kept"].append(number)
        differ = sum(len(numbers) for pairs in found.values() for numbers in pairs.values())
        left = sum(map(len, found.get("not explained", {}).values()))
        unexplained += left
        print(f"\n{name}: {differ} of {len(pages)} decisions differ, {left} with the peer's definitions")
        for why, pairs in found.items():
            print(f"  {why}")
            for (ours, theirs), numbers in pairs.items():
                pages_listed = " ".join(map(str, numbers))
                print(f"    {len(numbers):3} pages: ours {ours}, datatrove {theirs}: {pages_listed}")
    same, kept = c4_texts_equal(pages, peer)
    print(f"\nC4 with the peer's definitions: {same} of {kept} texts of pages that both keep are identical\n")
    return unexplained


def c4_texts_equal(pages: Sequence[Page], peer: dict[str, Any]) -> tuple[int, int]:
    """(texts that are the same after both have removed lines, pages that both keep)."""
    stage = C4(min_words=3, min_sentences=5, end_marks=[*C4_END_MARKS, "'"])
    same = kept = 0
    for page, theirs, text in zip(pages, peer["decisions"]["C4"], peer["c4_texts"]):
        outcome = stage.apply(document(page))
        if not outcome.verdict.reason and not theirs:
            kept += 1
            same += outcome.document.text == text
    return same, kept
