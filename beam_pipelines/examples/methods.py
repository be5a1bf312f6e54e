"""Candidates of "does this class define this method?": for each listed method one that the page does not list."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable

from beam_pipelines.examples.candidates import PAGE_CHARACTERS, Candidate
from beam_pipelines.examples.pages import ObjectPage, cut
from tasks.splits import split_of, stable_hash

OPTIONS = ("yes", "no")
# Questions a page: one listed and one foreign method each.
PAIRS_PER_PAGE = 2
DESCRIPTION_CHARACTERS = 300
MINIMUM_METHODS = 2


def candidates(pages: Iterable[ObjectPage]) -> tuple[list[Candidate], Counter[str]]:
    """Pairs of candidates, "yes" and "no" in equal numbers on every page, and the pages dropped by reason.

    The methods asked about with the answer "no" are those asked about with the answer "yes" on other pages of the
    same split (of the same package where possible), so that neither the page nor the method's name alone gives the
    answer away.
    """
    asked: dict[str, list[tuple[ObjectPage, str, str]]] = defaultdict(list)
    dropped: Counter[str] = Counter()
    for page in pages:
        if page.kind != "class":
            dropped["not a class"] += 1
            continue
        text = _prompt_page(page)
        visible = [name for name in page.methods if _lists(text, name)]
        if not page.listing or page.listing.count("def ") < MINIMUM_METHODS or not visible:
            dropped[f"page shows fewer than {MINIMUM_METHODS} methods"] += 1
            continue
        visible.sort(key=lambda name: stable_hash(f"{page.name}.{name}"))
        for name in visible[:PAIRS_PER_PAGE]:
            asked[split_of(page.key)].append((page, text, name))
    found: list[Candidate] = []
    for questions in asked.values():
        questions.sort(key=lambda question: (question[0].package, stable_hash(f"{question[0].name}.{question[2]}")))
        taken: set[tuple[str, str]] = set()
        for position, (page, text, name) in enumerate(questions):
            foreign = _foreign_method(questions, position, taken)
            if foreign is None:
                dropped["no foreign method fits"] += 1
                continue
            taken.add((page.name, foreign))
            found.append(_candidate(page, text, name, "yes"))
            found.append(_candidate(page, text, foreign, "no"))
    return found, dropped


def _foreign_method(
    questions: list[tuple[ObjectPage, str, str]], position: int, taken: set[tuple[str, str]]
) -> str | None:
    """The next question's method that this question's page neither lists nor mentions."""
    page, text, _ = questions[position]
    for step in range(1, len(questions)):
        name = questions[(position + step) % len(questions)][2]
        if name not in page.methods and not _mentions(text, name) and (page.name, name) not in taken:
            return name
    return None


def _prompt_page(page: ObjectPage) -> str:
    description = cut(page.docstring, DESCRIPTION_CHARACTERS)
    return cut(f"{description}\n\nMethods:\n{page.listing}", PAGE_CHARACTERS)


def _lists(text: str, name: str) -> bool:
    return re.search(rf"\bdef\s+{re.escape(name)}\s*\(", text) is not None


def _mentions(text: str, name: str) -> bool:
    return re.search(rf"\b{re.escape(name)}\b", text) is not None


def _candidate(page: ObjectPage, text: str, method: str, answer: str) -> Candidate:
    fields = {"page": text, "class_name": page.name.rsplit(".", 1)[-1], "method": method}
    return Candidate(page.name, page.key, f"{page.name}#{method}", f"{text}\n{method}", fields, answer, answer)
