"""Rejects pages by their address, before any work is spent on them: RefinedWeb's URL filter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from beam_pipelines.files.list_files import digest
from beam_pipelines.web.document import Measure, Page
from beam_pipelines.web.urls import blocklist, url_words
from beam_pipelines.web.urls.curated_sources import CURATED_SOURCES
from beam_pipelines.web.urls.url_normal import normalise_host
from t5x_style.errors import UserError

# RefinedWeb's choice of UT1's categories (https://arxiv.org/abs/2306.01116, appendix G.1, as quoted elsewhere). Others
# that UT1 has (press, shop, bank, blog, ...) are no reason to drop a page.
REFINEDWEB_CATEGORIES = (
    *("adult", "phishing", "dating", "gambling", "filehosting"),
    *("ddos", "agressif", "chat", "mixed_adult", "arjel"),
)


@dataclass(frozen=True)
class UrlFilter:
    """Four rules, each with its own reason: `curated_source`, `blocklisted_domain`, `blocklisted_url`, `url_words`.

    A domain, listed or curated, stands for all hosts below it: `example.com` rejects `a.b.example.com` and not
    `notexample.com`. Listed addresses stand for all below them: `example.com/a` rejects `example.com/a/b`. Case,
    `www.`, port, user, a dot at the end, and Unicode or punycode spelling of a host make no difference. A host that is
    not listed is rejected with a probability of 3e-13 a lookup (64-bit hashes, 5 million entries).

    Words score `strict_weight` for each different strict entry in the address, and so on; pages above `max_word_score`
    are rejected. The usual weights are the tiers of the public implementations: one strict entry, one hard word or two
    different soft words.

    Attributes:
      blocklist: folder in the UT1 format, https://dsi.ut-capitole.fr/blacklists/: a folder for each category with the
        files `domains` and `urls`, plain or .gz; '' for none. The files are read by every worker, local or remote.
      categories: the folders of `blocklist` that are read.
      lists: more blocklist files: a domain or an address a line, or lines of a hosts file; plain or gzip.
      cache: local folder for the finished tables, which all workers of a machine then share; '' keeps none.
      words: whether the addresses' words are scored.
      strict_list, hard_list, soft_list: files with one entry a line; None is the list that comes with this package.
      strict_weight, hard_weight, soft_weight: score of one entry; 0 switches a list off.
      max_word_score: highest score that is kept.
      curated_sources: domains that the mixture takes from elsewhere; empty keeps them all.

    Raises:
      UserError: a list or category is missing, a weight is negative, or no rule is left.
    """

    blocklist: str = ""
    categories: Sequence[str] = REFINEDWEB_CATEGORIES
    lists: Sequence[str] = ()
    cache: str = ""
    words: bool = True
    strict_list: str | None = None
    hard_list: str | None = None
    soft_list: str | None = None
    strict_weight: float = 1.0
    hard_weight: float = 1.0
    soft_weight: float = 0.5
    max_word_score: float = 0.5
    curated_sources: Sequence[str] = CURATED_SOURCES
    name: str = "url_filter"
    lists_identity: str = field(init=False, repr=False)  # so that changed lists are another configuration

    def __post_init__(self) -> None:
        for severity in url_words.SEVERITIES:
            if not getattr(self, f"{severity}_weight") >= 0:
                raise UserError(f"UrlFilter.{severity}_weight is below 0; a weight of 0 switches the list off")
        if self.max_word_score < 0:
            raise UserError("UrlFilter.max_word_score is below 0, which rejects every page; give 0 or more")
        if self.blocklist and not self.categories:
            raise UserError("UrlFilter.categories is empty although a blocklist is given; name its categories to use")
        if not (self.blocklist or self.lists or self.words or self.curated_sources):
            raise UserError("UrlFilter has no rule left: give a blocklist, words or curated_sources, or leave it out")
        if bad := [site for site in self.curated_sources if normalise_host(site) != site]:
            raise UserError(f"UrlFilter.curated_sources: write {bad[0]!r} as {normalise_host(bad[0])!r}")
        paths = blocklist.list_paths(self.blocklist, self.categories, self.lists)
        if self.words:
            paths += url_words.list_paths(self.strict_list, self.hard_list, self.soft_list)
        object.__setattr__(self, "lists_identity", digest(paths))

    def page_measures(self, page: Page) -> Iterator[Measure]:
        """One signal a rule; those of lists are 0 or 1."""
        host = normalise_host(page.url)
        if self.curated_sources:
            curated = _is_below(host, _site_set(tuple(self.curated_sources)))
            yield Measure("curated_source", float(curated), None, 0, "curated_source")
        if self.blocklist or self.lists:
            listed = blocklist.load(self.blocklist, tuple(self.categories), tuple(self.lists), self.cache)
            yield Measure("blocklisted_domain", float(listed.blocks_host(host)), None, 0, "blocklisted_domain")
            yield Measure("blocklisted_url", float(listed.blocks_url(host, page.url)), None, 0, "blocklisted_url")
        if self.words:
            yield Measure("url_words", self.word_score(page.url), None, self.max_word_score, "url_words")

    def word_score(self, url: str) -> float:
        """The sum of the weights of all different entries in the address."""
        lists = url_words.load(self.strict_list, self.hard_list, self.soft_list)
        strict, hard, soft = lists.counts(url)
        return self.strict_weight * strict + self.hard_weight * hard + self.soft_weight * soft


@functools.lru_cache(maxsize=8)
def _site_set(sites: tuple[str, ...]) -> frozenset[str]:
    return frozenset(sites)


def _is_below(host: str, sites: frozenset[str]) -> bool:
    """Whether the host or a domain above it is among the sites."""
    while host:
        if host in sites:
            return True
        _, _, host = host.partition(".")
    return False
