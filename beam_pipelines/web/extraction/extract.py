"""Main-content extraction: the HTML of a page to its text, title and meta tags.

Pure functions of the page. The stage runs them in a child process that can be killed (`extract_process`), because no
HTML parser is safe from pages that keep it busy for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.web.archives.encoding import decode
from beam_pipelines.web.document import Document, Page, Verdict
from beam_pipelines.web.extraction import extract_auto, extractors
from t5x_style.errors import UserError

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

Method = Literal["auto", "landmarks", "resiliparse", "trafilatura", "justext"]
# Where the frontier of benchmarks/web_extraction.py flattens: one page in ten is read by the slow extractor too.
DOUBT = 0.15
_SMALLEST_MEMORY = 256  # MB: the interpreter and the parsers

_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"(?<![^\S\n])[^\S\n]+\n|\r\n?")  # looks at a run of spaces once


class Extracted(NamedTuple):
    """What a page holds.

    Attributes:
      text: main text.
      title: of the page.
      meta: {meta tag's name: content}.
      extractor: which one made the text: a method's name other than `auto`, or `plain` for pages that are text.
      encoding: Python codec that read the bytes.
      slow_failure: why the slow extractor of `auto` gave nothing (`timeout`, `crash`, `memory`, `parse_error_...`).
      edits: counts for the funnel: pages by the extractor that made their text, pages that the slow extractor read
        or failed on.
    """

    text: str
    title: str
    meta: dict[str, str]
    extractor: str = ""
    encoding: str = ""
    slow_failure: str = ""
    edits: Mapping[str, int] = {}  # never written to


@dataclass(frozen=True)
class Extract:
    """Extracts the main content of HTML pages; pages that are plain text pass through.

    Attributes:
      method: `resiliparse` (its rules for main content), `landmarks` (all but what HTML and ARIA mark as navigation
        and the like), `trafilatura`, `justext`, or `auto`: the first two, and trafilatura where they are in doubt.
        Speed and word F1 of each are in docs/web_data.md.
      timeout: seconds after which the extraction of one page is ended and the page rejected.
      memory_mb: address space of the extracting process; a page that needs more is rejected.
      doubt: of `auto`: trafilatura reads a page if the expected difference in word F1 between the fast readings is
        below this share of the words in which they differ; 0 never, 1 nearly always.
      slow_timeout: of `auto`: seconds after which trafilatura is ended and the fast text kept, counted as
        `slow_timeout`; so are its other failures.

    Raises:
      UserError: a value that is not allowed.
    """

    method: Method = "resiliparse"
    timeout: float = 30.0
    memory_mb: int = 4096
    doubt: float = DOUBT
    slow_timeout: float = 10.0
    name: str = "extract"

    def __post_init__(self) -> None:
        problem = ""
        if self.method not in get_args(Method):
            problem = f"method is {self.method!r}; choose one of {', '.join(get_args(Method))}"
        elif self.timeout <= 0 or self.slow_timeout <= 0:
            problem = f"timeout {self.timeout} and slow_timeout {self.slow_timeout} are seconds; give more than 0"
        elif self.memory_mb < _SMALLEST_MEMORY:
            problem = f"memory_mb is {self.memory_mb}; the parsers alone need {_SMALLEST_MEMORY}"
        elif not 0 <= self.doubt <= 1:
            problem = f"doubt is {self.doubt}; give 0 (trafilatura never) to 1"
        if problem:
            raise UserError(f"Extract {self.name!r}: {problem}")


def extract_page(
    content: bytes,
    charset: str,
    method: str,
    doubt: float = DOUBT,
    before_slow: Callable[[Extracted], None] | None = None,
) -> Extracted:
    """Text, title and meta tags of one HTML page.

    Args:
      content: the page's bytes.
      charset: what the HTTP header says; '' if nothing (see `encoding.decode`).
      method, doubt: as in `Extract`.
      before_slow: called with the fast result where `auto` goes on to the slow extractor.
    """
    from resiliparse.parse.html import HTMLTree

    html, encoding = decode(content, charset)
    html = valid_text(html)
    tree = HTMLTree.parse(html)

    def extracted(text: str, extractor: str) -> Extracted:
        edits = {f"by_{extractor}": 1}
        return Extracted(tidy(text), valid_text(tree.title or "").strip(), meta, extractor, encoding, "", edits)

    meta = _meta_tags(tree)
    if method == "auto":
        return _auto(html, tree, doubt, extracted, before_slow)
    return extracted(_read(method, html, tree), method)


def _read(method: str, html: str, tree: HTMLTree) -> str:
    if method == "trafilatura":
        return extractors.trafilatura_text(html)
    if method == "justext":
        return extractors.justext_text(html)
    return extractors.main_content(tree) if method == "resiliparse" else extractors.landmarks(tree)[0]


def _auto(
    html: str,
    tree: HTMLTree,
    doubt: float,
    extracted: Callable[[str, str], Extracted],
    before_slow: Callable[[Extracted], None] | None,
) -> Extracted:
    """Both fast readings of the same part of the page; the slow one and a vote where they are in doubt."""
    body, part = extractors.landmarks(tree)
    main = extractors.main_content(part)
    agreement = extract_auto.overlap(extract_auto.words_of(main), extract_auto.words_of(body))
    choice = extract_auto.choose(main, body, agreement, doubt)
    fast = extracted(body, "landmarks") if choice.body else extracted(main, "resiliparse")
    if not choice.doubtful:
        return fast
    if before_slow is not None:
        before_slow(fast)
    try:
        slow = extractors.trafilatura_text(html)
    except MemoryError:
        return without_slow(fast, "memory")
    except Exception as error:  # noqa: BLE001 - whatever the slow parser raises, the fast text is good; counted by name
        return without_slow(fast, f"parse_error_{type(error).__name__}")
    chosen = extract_auto.vote(main, body, slow)
    voted = extracted((main, body, slow)[chosen], ("resiliparse", "landmarks", "trafilatura")[chosen])
    return voted._replace(edits={**voted.edits, "slow_read": 1})


def without_slow(fast: Extracted, failure: str) -> Extracted:
    """The fast result where the slow extractor failed: kept and counted."""
    return fast._replace(slow_failure=failure, edits={**fast.edits, f"slow_{failure}": 1})


def _meta_tags(tree: HTMLTree) -> dict[str, str]:
    """The first content of every named meta tag."""
    meta: dict[str, str] = {}
    for tag in tree.document.query_selector_all("meta[name][content]") if tree.document is not None else ():
        meta.setdefault(valid_text(tag.getattr("name") or ""), valid_text(tag.getattr("content") or ""))
    return meta


def tidy(text: str) -> str:
    r"""Valid text with "\n" line ends, no spaces at the ends of lines, at most two newlines in a row."""
    return _BLANK_LINES.sub("\n\n", _LINE_ENDS.sub("\n", valid_text(text))).strip()


def plain_page(page: Page) -> Extracted:
    """A page that is text already (WET): decoded and tidied."""
    text, encoding = decode(page.content, page.charset)
    return Extracted(tidy(text), "", {}, "plain", encoding, "", {"by_plain": 1})


def to_document(page: Page, extracted: Extracted) -> tuple[Document, Verdict]:
    """The document of a page; rejected as `no_text` if nothing was left."""
    metadata: dict[str, object] = {"title": extracted.title, "meta": extracted.meta}
    metadata |= {"extractor": extracted.extractor, "encoding": extracted.encoding}
    metadata |= {"file": page.file, "offset": page.offset}
    if extracted.slow_failure:
        metadata["slow_extractor"] = extracted.slow_failure
    document = page.document(extracted.text, json.dumps(metadata, ensure_ascii=False))
    return document, Verdict("" if extracted.text else "no_text")
