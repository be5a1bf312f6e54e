"""Main-content extraction: the HTML of a page to its text, title and meta tags.

Pure functions of the page. The stage runs them in a child process that can be killed (`extract_process`), because no
HTML parser is safe from pages that keep it busy for ever.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from beam_pipelines.web.document import Document, Page, Verdict, valid_text

_BLANK_LINES = re.compile(r"\n{3,}")
_LINE_ENDS = re.compile(r"[^\S\n]+\n|\r\n?")


class Extracted(NamedTuple):
    """What a page holds: main text, title, {meta tag's name: content}."""

    text: str
    title: str
    meta: dict[str, str]


@dataclass(frozen=True)
class Extract:
    """Extracts the main content of HTML pages; pages that are plain text pass through.

    Attributes:
      method: `resiliparse` reads hundreds of large pages a second and core, `trafilatura` about 40, with a little
        better main content.
      timeout: seconds after which the extraction of one page is ended and the page rejected.
      memory_mb: address space of the extracting process; a page that needs more is rejected.
    """

    method: Literal["resiliparse", "trafilatura"] = "resiliparse"
    timeout: float = 30.0
    memory_mb: int = 4096
    name: str = "extract"


def extract_page(content: bytes, charset: str, method: str) -> Extracted:
    """Text, title and meta tags of one HTML page.

    Args:
      content: the page's bytes.
      charset: what the HTTP header says; '' to detect it.
      method: `resiliparse` or `trafilatura`.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding
    from resiliparse.parse.html import HTMLTree

    try:
        html = bytes_to_str(content, charset or detect_encoding(content, from_html_meta=True) or "utf-8")
    except LookupError:  # a charset that does not exist
        html = bytes_to_str(content, detect_encoding(content, from_html_meta=True) or "utf-8")
    tree = HTMLTree.parse(valid_text(html))
    if method == "trafilatura":
        import trafilatura

        text = trafilatura.extract(html) or ""
    else:
        text = extract_plain_text(tree, main_content=True, preserve_formatting=True, alt_texts=False) or ""
    meta: dict[str, str] = {}
    for tag in tree.document.query_selector_all("meta[name][content]") if tree.document is not None else ():
        meta.setdefault(valid_text(tag.getattr("name") or ""), valid_text(tag.getattr("content") or ""))
    return Extracted(tidy(text), valid_text(tree.title or "").strip(), meta)


def tidy(text: str) -> str:
    r"""Valid text with "\n" line ends, no spaces at the ends of lines, at most two newlines in a row."""
    return _BLANK_LINES.sub("\n\n", _LINE_ENDS.sub("\n", valid_text(text))).strip()


def plain_page(page: Page) -> Extracted:
    """A page that is text already (WET): decoded and tidied."""
    return Extracted(tidy(page.content.decode(page.charset or "utf-8", "replace")), "", {})


def to_document(page: Page, extracted: Extracted) -> tuple[Document, Verdict]:
    """The document of a page; rejected as `no_text` if nothing was left."""
    metadata = {"title": extracted.title, "meta": extracted.meta, "file": page.file, "offset": page.offset}
    document = page.document(extracted.text, json.dumps(metadata, ensure_ascii=False))
    return document, Verdict("" if extracted.text else "no_text")
