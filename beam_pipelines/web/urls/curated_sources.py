"""Sites of good text that a mixture takes from their own dumps, and not once more from a crawl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# Sixteen kinds, as many as RefinedWeb excludes; its own list is not published, these are the sites of the sources that
# public mixtures (LLaMA, The Pile, Falcon) take separately. A domain stands for all hosts below it.
SITES: Mapping[str, Sequence[str]] = {
    "encyclopedia": ("wikipedia.org",),
    "sister projects of the encyclopedia": (
        *("wikibooks.org", "wikinews.org", "wikiquote.org", "wikisource.org", "wikiversity.org", "wikivoyage.org"),
        *("wiktionary.org", "wikidata.org", "wikimedia.org"),
    ),
    "preprints": ("arxiv.org",),
    "biomedical papers": ("ncbi.nlm.nih.gov", "europepmc.org"),
    "paper index": ("semanticscholar.org",),
    "philosophy papers": ("philpapers.org", "philarchive.org"),
    "books out of copyright": ("gutenberg.org",),
    "code": ("github.com", "githubusercontent.com"),
    "questions and answers": (
        *("stackexchange.com", "stackoverflow.com", "superuser.com", "serverfault.com", "askubuntu.com"),
        *("mathoverflow.net", "stackapps.com"),
    ),
    "technology discussions": ("news.ycombinator.com",),
    "discussions": ("reddit.com", "redd.it"),
    "chat logs": ("irclogs.ubuntu.com",),
    "patents": ("uspto.gov", "patents.google.com"),
    "court opinions": ("courtlistener.com",),
    "parliament": ("europarl.europa.eu",),
    "subtitles": ("opensubtitles.org",),
}

CURATED_SOURCES: tuple[str, ...] = tuple(site for sites in SITES.values() for site in sites)
