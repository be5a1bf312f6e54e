"""Candidates: what each question asks of each page, or why it asks nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from beam_pipelines.examples.pages import ObjectPage, cut
from beam_pipelines.examples.sections import described_arguments

# A 4,096-piece vocabulary needs about one token for three characters of documentation, so that these limits, a
# template and an answer fit 512 tokens.
DOCSTRING_CHARACTERS = 700
PAGE_CHARACTERS = 900
# Below these a docstring says too little to tell where it comes from ("Return a copy.").
MINIMUM_PACKAGE_CHARACTERS = 100
MINIMUM_KIND_CHARACTERS = 60
MINIMUM_BODY_WORDS = 25
SUMMARY_WORDS = (4, 25)
# Share of the summary's content words that the body must hold: below it the summary cannot be inferred.
MINIMUM_OVERLAP = 0.5
MAXIMUM_ARGUMENTS = 8

ALIASES = {"numpy": ("np",), "jax": ("jnp",), "matplotlib": ("mpl", "plt", "pyplot"), "scipy": ("sp",)}
KIND_WORDS = re.compile(r"\b(class|classes|subclass\w*|functions?|(?:the|this) method)\b", re.IGNORECASE)
STOP_WORDS = frozenset(
    {"and", "are", "for", "from", "into", "its", "not", "than", "that", "the", "then", "this", "which", "with"}
)


@dataclass(frozen=True)
class Candidate:
    """One possible example.

    Attributes:
      object: qualified name of the page's object.
      key: decides the split.
      id: unique within the task.
      content: what the prompt tells; candidates with the same content must have the same answer.
      fields: text columns of the example.
      answer: the target.
      label: what is balanced: the answer of a classification, '' where any text can be the answer.
    """

    object: str
    key: str
    id: str
    content: str
    fields: Mapping[str, str]
    answer: str
    label: str


def package(page: ObjectPage) -> Candidate | str:
    """Which package is the docstring from? Those that name their package, or its usual alias, are dropped."""
    docstring = cut(page.docstring, DOCSTRING_CHARACTERS)
    if not page.package:
        return "no package"
    if len(docstring) < MINIMUM_PACKAGE_CHARACTERS:
        return "docstring too short"
    words = "|".join(map(re.escape, (page.package, *ALIASES.get(page.package.lower(), ()))))
    if re.search(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", docstring, re.IGNORECASE):
        return "docstring names its package"
    return Candidate(page.name, page.key, page.name, docstring, {"docstring": docstring}, page.package, page.package)


def kind(page: ObjectPage) -> Candidate | str:
    """Class or function? Docstrings with these words, or "this method", are dropped: they give it away."""
    docstring = cut(page.docstring, DOCSTRING_CHARACTERS)
    if len(docstring) < MINIMUM_KIND_CHARACTERS:
        return "docstring too short"
    if KIND_WORDS.search(docstring):
        return "docstring says class or function"
    return Candidate(page.name, page.key, page.name, docstring, {"docstring": docstring}, page.kind, page.kind)


def summary(page: ObjectPage) -> Candidate | str:
    """The first line, given the rest: it must be a whole sentence, inferable from the rest and not a copy of a part."""
    words = page.summary.split()
    body = cut(page.body, DOCSTRING_CHARACTERS)
    if not page.summary[0].isalpha() or re.match(r"[\w.]+\(", page.summary):
        return "first line is not prose"
    if not (page.summary.endswith(".") or re.match(r"[ \t]*\n", page.body)):
        return "first line is not a whole sentence"
    if not SUMMARY_WORDS[0] <= len(words) <= SUMMARY_WORDS[1]:
        return f"summary is not {SUMMARY_WORDS[0]} to {SUMMARY_WORDS[1]} words"
    if len(body.split()) < MINIMUM_BODY_WORDS:
        return "body too short"
    if _joined(page.summary).rstrip(".") in _joined(body):
        return "body repeats the summary"
    content = _content_stems(page.summary)
    if not content or len(content & _content_stems(body)) < MINIMUM_OVERLAP * len(content):
        return "body does not support the summary"
    return Candidate(page.name, page.key, page.name, body, {"body": body}, page.summary, "")


def arguments(page: ObjectPage) -> Candidate | str:
    """The arguments that the docstring describes; all must be in the signature, which the prompt does not show."""
    docstring = cut(page.docstring, PAGE_CHARACTERS)
    described = described_arguments(page.docstring)
    if not described:
        return "no argument section"
    if "%(" in page.docstring:
        return "argument section has unfilled placeholders"
    if not set(described) <= set(page.arguments):
        return "describes a name that the signature lacks"
    if any(_looks_described(name, page.docstring) for name in set(page.arguments) - set(described)):
        return "entries run together"
    if described_arguments(docstring) != described:
        return "argument section is cut"
    if len(described) > MAXIMUM_ARGUMENTS:
        return f"over {MAXIMUM_ARGUMENTS} arguments"
    return Candidate(page.name, page.key, page.name, docstring, {"docstring": docstring}, ", ".join(described), "")


def each_page(
    pages: Iterable[ObjectPage], ask: Callable[[ObjectPage], Candidate | str]
) -> tuple[list[Candidate], Counter[str]]:
    """Asks every page one question: the candidates and how many pages were dropped for which reason."""
    candidates: list[Candidate] = []
    dropped: Counter[str] = Counter()
    for page in pages:
        outcome = ask(page)
        if isinstance(outcome, Candidate):
            candidates.append(outcome)
        else:
            dropped[outcome] += 1
    return candidates, dropped


def _looks_described(name: str, docstring: str) -> bool:
    """Whether an entry for the name stands inside a line: pages may join a section's entries into one paragraph."""
    return re.search(rf"\b{re.escape(name)}`*\s*(?:\([^)]*\)\s*)?(?::|--)\s", docstring) is not None


def _joined(text: str) -> str:
    return " ".join(text.lower().split())


def _content_stems(text: str) -> set[str]:
    """Words without the most frequent ones, cut to five letters so that "returns" meets "returned"."""
    return {word[:5] for word in re.findall(r"[a-z]+", text.lower()) if word not in STOP_WORDS and len(word) > 2}
