"""C4's rules: lines are removed, then documents judged by what is left (Raffel et al. 2020, section 2.2).

The paper (https://arxiv.org/abs/1910.10683) and the code that made the data set (TensorFlow Datasets, c4_utils.py)
differ; the defaults are the code's:

| rule | code | paper |
| --- | --- | --- |
| words in a line | >= 5 | >= 3: `min_words=3` |
| sentences in a document | >= 3 | >= 5: `min_sentences=5` |
| lorem ipsum, curly brackets | in lines that got that far | anywhere in the page: `whole_page=True` |

The paper's further rules, on blocked words, duplicate spans and language, are other stages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from beam_pipelines.text.sentences import count_sentences
from beam_pipelines.text.words import split_words
from beam_pipelines.web.document import Document, Filter, Measure, Outcome, take_measures
from t5x_style.errors import UserError

END_MARKS = (".", "?", "!", '"')
ELLIPSIS = "..."
POLICY_PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


@dataclass(frozen=True)
class C4:
    """Removes lines that are no sentences or about the site itself; rejects documents with too little left.

    The text of a kept document is its kept lines, one newline between them. What went is counted in the edits:
    `lines_long_word`, `lines_no_end_mark`, `lines_few_words`, `lines_javascript`, `lines_policy` (each line by the
    first rule that it breaks, in this order) and `citations`.

    Attributes:
      end_marks: what a line must end with, three points not; empty for languages that write without.
      min_words: of a line, citations not counted.
      max_word_length: characters of the longest word that a line may have.
      javascript: whether lines with the word are removed.
      policy_phrases: lower case; lines with one of them are removed.
      citations: whether [1], [], [edit], [citation needed] are removed.
      min_sentences: in the lines that are kept, split by the rules of the document's language.
      whole_page: whether lorem ipsum and { are looked for in all lines, not just in those that broke no rule before.

    Raises:
      UserError: policy phrases that are not in lower case, a negative number.
    """

    end_marks: Sequence[str] = END_MARKS
    min_words: int = 5
    max_word_length: int = 1000
    javascript: bool = True
    policy_phrases: Sequence[str] = POLICY_PHRASES
    citations: bool = True
    min_sentences: int = 3
    whole_page: bool = False
    name: str = "c4"

    def __post_init__(self) -> None:
        for field in ("end_marks", "policy_phrases"):
            if isinstance(getattr(self, field), str) or not all(getattr(self, field)):
                raise UserError(f"C4.{field} must be a list of texts, none empty")
        if any(phrase != phrase.lower() for phrase in self.policy_phrases):
            raise UserError("C4.policy_phrases must be in lower case")
        for field in ("min_words", "max_word_length", "min_sentences"):
            if getattr(self, field) < 0:
                raise UserError(f"C4.{field} must not be negative: {getattr(self, field)}")

    @cached_property
    def _end_marks(self) -> tuple[str, ...]:
        return tuple(self.end_marks)

    def apply(self, document: Document) -> Outcome:
        """The document with the lines that are kept; a rejected one keeps its text, and nothing counts as edited."""
        edits: Counter[str] = Counter()
        kept: list[str] = []
        verdict, measures = take_measures(self._measures(document, kept, edits))
        if verdict.reason:
            return Outcome(document, verdict, measures)
        return Outcome(document.replace(text="\n".join(kept)), verdict, measures, edits)

    def _measures(self, document: Document, kept: list[str], edits: Counter[str]) -> Iterator[Measure]:
        """The document's rules, between which the lines' rules are applied in the order of the data set's code."""
        lines = document.lines
        sentences = self._sentence_lines(lines, edits)
        lowered = "\n".join(sentences).lower()
        found = ("\n".join(lines).lower() if self.whole_page else lowered).count("lorem ipsum")
        yield Measure("lorem_ipsum", found, maximum=0, reason="lorem_ipsum")
        if self.javascript:
            sentences = _without(("javascript",), sentences, lowered, "lines_javascript", edits)
        found = sum([line.count("{") for line in (lines if self.whole_page else sentences)])
        yield Measure("curly_brackets", found, maximum=0, reason="curly_brackets")
        kept += _without(self.policy_phrases, sentences, lowered, "lines_policy", edits)
        yield Measure("kept_lines", len(kept) / max(len(lines), 1))
        count = count_sentences("\n".join(kept), document.language)
        yield Measure("sentences", count, minimum=self.min_sentences)

    def _sentence_lines(self, lines: Sequence[str], edits: Counter[str]) -> list[str]:
        end_marks = self._end_marks
        result = []
        for line in lines:
            if len(line) > self.max_word_length and max(map(len, split_words(line))) > self.max_word_length:
                edits["lines_long_word"] += 1
                continue
            citations = 0
            if self.citations and "[" in line:
                line, citations = _CITATION.subn("", line)
            if end_marks and (not line.endswith(end_marks) or line.endswith(ELLIPSIS)):
                edits["lines_no_end_mark"] += 1
            elif _fewer_words(line, self.min_words):
                edits["lines_few_words"] += 1
            else:
                result.append(line)
                edits["citations"] += citations
        return result


def _fewer_words(line: str, count: int) -> bool:
    # No line has fewer words than parts between spaces, and these are counted far faster.
    return count > 0 and len(line.split(None, count - 1)) < count and len(split_words(line)) < count


def _without(phrases: Sequence[str], lines: list[str], lowered: str, edit: str, edits: Counter[str]) -> list[str]:
    """The lines that hold none of the phrases in any case; `lowered`, all lines as one text, saves most the search."""
    present = [phrase for phrase in phrases if phrase in lowered]
    if not present:
        return lines
    kept = [line for line in lines if not any(phrase in line.lower() for phrase in present)]
    edits[edit] += len(lines) - len(kept)
    return kept


@dataclass(frozen=True)
class LongLines(Filter):
    """mC4's rule (Xue et al. 2021, section 3.1; https://arxiv.org/abs/2010.11934): some lines must be long.

    Attributes:
      min_lines: how many of them.
      min_characters: of a long line.

    Raises:
      UserError: a negative number.
    """

    min_lines: int = 3
    min_characters: int = 200
    name: str = "long_lines"

    def __post_init__(self) -> None:
        for field in ("min_lines", "min_characters"):
            if getattr(self, field) < 0:
                raise UserError(f"LongLines.{field} must not be negative: {getattr(self, field)}")

    def measures(self, document: Document) -> Iterator[Measure]:
        """One rule."""
        long = sum([len(line) >= self.min_characters for line in document.lines])
        yield Measure("long_lines", long, minimum=self.min_lines)
