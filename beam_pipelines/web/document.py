"""What flows between the stages: pages, documents, measures, verdicts."""

from __future__ import annotations

import abc
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, runtime_checkable

from beam_pipelines.text.words import normalised_words, split_words


class Verdict(NamedTuple):
    """A stage's decision about a document: kept if `reason` is empty.

    Attributes:
      reason: short name of the rule that rejects it, e.g. `mean_word_length`.
      value: what the rule measured, None where it measures nothing.
      threshold: what the value was held against.
    """

    reason: str = ""
    value: float | None = None
    threshold: float | None = None


KEEP = Verdict()


class Measure(NamedTuple):
    """One signal of a document and the range it is allowed; the histograms of report.html are made of these.

    Attributes:
      signal: name of what is measured, unique in its stage, e.g. `mean_word_length`.
      value: what was measured.
      minimum, maximum: both are still allowed; None where there is no limit.
      reason: of the rejection; empty for `<signal>_low` or `<signal>_high`.
    """

    signal: str
    value: float
    minimum: float | None = None
    maximum: float | None = None
    reason: str = ""

    def verdict(self) -> Verdict:
        """`KEEP` inside the limits.

        Example: Measure("words", 12, minimum=50).verdict() -> Verdict("words_low", 12, 50).
        """
        if self.minimum is not None and self.value < self.minimum:
            return Verdict(self.reason or f"{self.signal}_low", self.value, self.minimum)
        if self.maximum is not None and self.value > self.maximum:
            return Verdict(self.reason or f"{self.signal}_high", self.value, self.maximum)
        return KEEP


def take_measures(measures: Iterable[Measure]) -> tuple[Verdict, list[Measure]]:
    """Takes measures up to the first that breaks its limits and computes no more: (its verdict, those taken)."""
    taken = []
    for measure in measures:
        taken.append(measure)
        if (verdict := measure.verdict()).reason:
            return verdict, taken
    return KEEP, taken


@dataclass(frozen=True)
class Document:
    """One document; the fields are the columns of the Parquet files, in order (see docs/architecture.md).

    `metadata` is JSON text. Words are split once and shared by all stages that read the same text.
    """

    id: str
    text: str
    source: str
    url: str
    date: str
    language: str
    language_score: float
    metadata: str

    @cached_property
    def words(self) -> list[str]:
        """The words of the text (see `words.split_words`)."""
        return split_words(self.text)

    @cached_property
    def normalised_words(self) -> list[str]:
        """The words as near-duplicate detection compares them (see `words.normalised_words`)."""
        return normalised_words(self.text)

    @cached_property
    def lines(self) -> list[str]:
        """The lines that are not blank, without the spaces around them."""
        return [stripped for line in self.text.splitlines() if (stripped := line.strip())]

    def replace(self, **changes: Any) -> Document:
        """A copy with other fields; the split words go along if the text stays the same."""
        other = dataclasses.replace(self, **changes)
        if changes.get("text", self.text) == self.text:
            for shared in ("words", "normalised_words", "lines"):
                if shared in self.__dict__:
                    other.__dict__[shared] = self.__dict__[shared]
        return other


class Page(NamedTuple):
    """One crawled page before extraction.

    Attributes:
      content: the payload, HTTP transfer and content encodings undone.
      charset: what the HTTP header says, '' if nothing.
      html: False for plain text (WET records), which needs no extraction.
    """

    id: str
    file: str
    offset: int
    source: str
    url: str
    date: str
    content: bytes
    charset: str
    html: bool

    def document(self, text: str, metadata: str) -> Document:
        """The document made of this page."""
        return Document(self.id, text, self.source, self.url, self.date, "", 0.0, metadata)


class Unreadable(NamedTuple):
    """A record that gave no page; `reason` and `value` as in Verdict, `detail` for people."""

    id: str
    file: str
    offset: int
    source: str
    url: str
    date: str
    reason: str
    value: float | None
    detail: str


@runtime_checkable
class Stage(Protocol):
    """Anything in a recipe: a frozen dataclass of parameters with a name that is unique in the recipe."""

    @property
    def name(self) -> str:
        """Name in the funnel."""
        ...


class Outcome(NamedTuple):
    """What a stage did with a document.

    Attributes:
      document: changed or not.
      verdict: whether it stays.
      measures: the signals that were computed on the way.
      edits: what was changed in the text, counted, e.g. {"lines_removed": 3}; summed up in stats.json.
    """

    document: Document
    verdict: Verdict = KEEP
    measures: Sequence[Measure] = ()
    edits: Mapping[str, int] = {}


@runtime_checkable
class DocumentStage(Stage, Protocol):
    """A stage that looks at one document at a time and may change it."""

    def apply(self, document: Document) -> Outcome:
        """The document, changed or not, and whether it stays."""
        ...


class Filter(abc.ABC):
    """Base of the document stages that measure and never change: a frozen dataclass that defines `measures`."""

    @abc.abstractmethod
    def measures(self, document: Document) -> Iterator[Measure]:
        """The rules in order, lazily: what follows a broken rule is not computed."""

    def judge(self, document: Document) -> Verdict:
        """The first rule that the document breaks, `KEEP` if none."""
        return take_measures(self.measures(document))[0]

    def apply(self, document: Document) -> Outcome:
        """See `DocumentStage`."""
        return Outcome(document, *take_measures(self.measures(document)))


@runtime_checkable
class PageStage(Stage, Protocol):
    """A stage that looks at pages before their text is extracted, at their address say."""

    def page_measures(self, page: Page) -> Iterator[Measure]:
        """The rules in order, lazily."""
        ...


def record_id(file: str, offset: int) -> str:
    """32 hex characters: 128-bit hash of the file's name and the record's offset in it."""
    return hashlib.blake2b(f"{file}\0{offset}".encode(), digest_size=16).hexdigest()


def configuration(stage: Any) -> Mapping[str, Any]:
    """A stage's parameters and its class as JSON-like values, equal exactly when the stages are."""
    fields = {field.name: _plain(getattr(stage, field.name)) for field in dataclasses.fields(stage)}
    return {"class": f"{type(stage).__module__}.{type(stage).__qualname__}", **fields}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return configuration(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
