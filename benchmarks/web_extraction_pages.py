"""Pages with hand-checked main text, and what each extractor makes of them: word F1 and processor seconds.

The data is a folder with `pages-*.warc.gz` (responses) and `pages.gold.jsonl.gz` (url, page_type, main_content).
"""

from __future__ import annotations

import gzip
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np

from beam_pipelines.text.valid_text import valid_text
from beam_pipelines.web.archives.encoding import decode
from beam_pipelines.web.archives.read_warc import ReadWarc
from beam_pipelines.web.document import Page
from beam_pipelines.web.extraction import extract_auto, extractors

DATA = Path(os.environ.get("T5X_STYLE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "web"
_WORD = re.compile(r"\w+")


class GoldPage(NamedTuple):
    """A page, what kind it is, and the text that a person kept."""

    page: Page
    kind: str
    gold: str


def read_pages(folder: Path, limit: int = 0) -> list[GoldPage]:
    """All pages of the folder, in the order of their files; the first `limit` if it is not 0."""
    with gzip.open(folder / "pages.gold.jsonl.gz", "rt", encoding="utf-8") as file:
        gold = {row["url"]: row for row in map(json.loads, file)}
    pages = []
    for path in sorted(folder.glob("pages-*.warc.gz")):
        for page in ReadWarc().pages(str(path), path.name, Counter()):
            if isinstance(page, Page) and page.url in gold:
                row = gold[page.url]
                pages.append(GoldPage(page, row["page_type"], row["main_content"] or ""))
    return pages[: limit or None]


def word_f1(gold: str, text: str) -> float:
    """F1 of the bags of lower-cased words; 0 without output.

    Example: word_f1("a b b c", "b b d") -> 2 * (2/3) * (2/4) / (2/3 + 2/4) = 0.571.
    """
    wanted, found = (Counter(_WORD.findall(part.lower())) for part in (gold, text))
    common = (wanted & found).total()
    return 2 * common / (wanted.total() + found.total()) if common else 0.0


def site(url: str) -> str:
    """The last two labels of the host: pages of one site share their templates, so folds keep them together."""
    return ".".join((urlsplit(url).hostname or "").split(".")[-2:])


def pages_with_gold(pages: Sequence[GoldPage]) -> np.ndarray:
    """Places of the pages that the mean F1 is over: those of which a person kept anything. int64[n]"""
    return np.flatnonzero([bool(_WORD.search(page.gold)) for page in pages])


def timed(function: Callable[[GoldPage], str], pages: Sequence[GoldPage]) -> tuple[list[str], np.ndarray]:
    """The text of every page and the processor seconds it took, float64[pages]."""
    texts, seconds = [], np.zeros(len(pages))
    for place, page in enumerate(pages):
        start = time.process_time()
        texts.append(function(page))
        seconds[place] = time.process_time() - start
    return texts, seconds


class Readings(NamedTuple):
    """What the router of `auto` chooses from, for `n` pages with gold; columns: main, body, trafilatura.

    Attributes:
      f1: float64[n, 3].
      agreement: word overlaps main-body, main-trafilatura, body-trafilatura, float64[n, 3].
      empty: whether both fast readings are under `SHORT_TEXT` characters, bool[n].
      signals: float64[n, signals].
      slow_seconds: of trafilatura, float64[n].
      sites: groups for folds.
    """

    f1: np.ndarray
    agreement: np.ndarray
    empty: np.ndarray
    signals: np.ndarray
    slow_seconds: np.ndarray
    sites: list[str]


def fast_readings(content: bytes, charset: str) -> tuple[str, str]:
    """Main and body of a page, as `extract_page` makes them for `auto`."""
    from resiliparse.parse.html import HTMLTree

    body, part = extractors.landmarks(HTMLTree.parse(valid_text(decode(content, charset).text)))
    return extractors.main_content(part), body


def readings(pages: Sequence[GoldPage], slow: bool = True) -> Readings:
    """Reads every page with gold in all three ways; without `slow`, trafilatura's columns are 0."""
    rows = []
    for place in pages_with_gold(pages):
        page, _, gold = pages[place]
        main, body = fast_readings(page.content, page.charset)
        start = time.process_time()
        html = valid_text(decode(page.content, page.charset).text)
        third = extractors.trafilatura_text(html) if slow else ""
        seconds = time.process_time() - start
        bags = [extract_auto.words_of(text) for text in (main, body, third)]
        overlaps = [extract_auto.overlap(bags[a], bags[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        scores = [word_f1(gold, text) for text in (main, body, third)]
        empty = max(len(main), len(body)) < extractors.SHORT_TEXT
        found = extract_auto.signals(main, body, overlaps[0])
        rows.append((scores, overlaps, empty, found, seconds, site(page.url)))
    columns = list(zip(*rows, strict=True))
    f1, agreement, signals = (np.array(columns[i], np.float64) for i in (0, 1, 3))
    return Readings(f1, agreement, np.array(columns[2]), signals, np.array(columns[4]), list(columns[5]))
