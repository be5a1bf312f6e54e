"""What a page says without its navigation, advertisements and notices: five readings of HTML, pure functions.

All but trafilatura's and jusText's work on the tree of resiliparse's parser (lexbor), which is parsed once per page.
Measured word F1 and speed are in docs/web_data.md and come from benchmarks/web_extraction.py.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resiliparse.parse.html import HTMLTree

# A text of fewer characters is no article: trafilatura 2.3's MIN_EXTRACTED_SIZE.
SHORT_TEXT = 250

# What HTML and ARIA define as something other than the content of a page.
_LANDMARKS = (
    "nav",
    "footer",
    "aside",
    "header",
    "button",
    "select",
    "dialog",
    ":is([role=navigation], [role=banner], [role=contentinfo], [role=complementary], [role=search], [role=dialog], "
    "[aria-hidden=true])",
)
# Words in the class or id of boxes that repeat on every page of a site. Only in boxes: the same words stand in the
# classes of <body> ("menu-open") and of text.
_BOX_NAMES = ("breadcrumb", "comment", "consent", "cookie", "menu", "modal", "popup", "related")
_NAMED = ", ".join(f'[class*="{name}" i], [id*="{name}" i]' for name in _BOX_NAMES)
_SKIPPED = [*_LANDMARKS, f":is(div, section, ul):is({_NAMED})"]


def main_content(tree: HTMLTree) -> str:
    """resiliparse's own rules for main content (names of classes and tags, depth, link density)."""
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(tree, main_content=True, preserve_formatting=True, alt_texts=False) or ""


def without_landmarks(tree: HTMLTree) -> str:
    """All text outside of navigation, headers, footers, asides, dialogs and boxes named like them.

    It keeps what density rules lose (lists of products, short paragraphs, tables) and all else that authors did not
    mark up.
    """
    from resiliparse.extract.html2text import extract_plain_text

    return extract_plain_text(tree, preserve_formatting=True, alt_texts=False, skip_elements=_SKIPPED) or ""


def content_element(tree: HTMLTree) -> HTMLTree | None:
    """The tree of the page's only <main>, or else its only <article>: what HTML defines as the main content.

    None if there is none, or more than one (a list of teasers).
    """
    from resiliparse.parse.html import HTMLTree

    if tree.body is None:
        return None
    for selector in ("main, [role=main]", "article"):
        found = tree.body.query_selector_all(selector)
        if len(found) == 1:
            return HTMLTree.parse(found[0].html)
    return None


def landmarks(tree: HTMLTree) -> tuple[str, HTMLTree]:
    """`without_landmarks` inside the `content_element` if there is enough in it, else of the whole page.

    Returns:
      The text, and the tree it is from.
    """
    inner = content_element(tree)
    if inner is not None:
        text = without_landmarks(inner)
        if len(text) >= SHORT_TEXT:
            return text, inner
    return without_landmarks(tree), tree


def trafilatura_text(html: str) -> str:
    """trafilatura's balanced mode with its fallbacks, without the readers' comments."""
    import trafilatura

    return trafilatura.extract(html, include_comments=False) or ""


def justext_text(html: str) -> str:
    """jusText's paragraphs that are not boilerplate, with the stop words of all its languages."""
    import justext
    from lxml.etree import ParserError

    try:
        paragraphs = justext.justext(html, _stop_words())
    except ParserError:  # a page without an element
        return ""
    return "\n".join(paragraph.text for paragraph in paragraphs if not paragraph.is_boilerplate)


@cache
def _stop_words() -> frozenset[str]:
    import justext

    return frozenset().union(*(justext.get_stoplist(language) for language in justext.get_stoplists()))
