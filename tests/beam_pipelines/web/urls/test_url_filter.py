"""Addresses that go and addresses that stay: lists, words, curated sources; and that innocent names stay."""

import gzip
import json
import pickle
import re
from collections import defaultdict
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.web.document import Page, PageStage, configuration, take_measures
from beam_pipelines.web.urls import blocklist, url_words
from beam_pipelines.web.urls.curated_sources import CURATED_SOURCES, SITES
from beam_pipelines.web.urls.url_filter import UrlFilter
from beam_pipelines.web.urls.url_normal import normalise_host
from t5x_style.errors import UserError


def judge(stage, url):
    page = Page("id", "file", 0, "web", url, "", b"", "", True)
    return take_measures(stage.page_measures(page))[0]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.fixture
def ut1(tmp_path):
    write(tmp_path / "ut1" / "adult" / "domains", "bad.com\nwww.worse.org\nsub.shared-host.net\n")
    write(tmp_path / "ut1" / "adult" / "urls", "shared-host.net/~bad\ngood.com/gallery/x.html\n")
    write(tmp_path / "ut1" / "gambling" / "domains.gz", "casino.example\n")
    write(tmp_path / "ut1" / "press" / "domains", "news.example\n")
    write(tmp_path / "ut1" / "README", "about")
    return str(tmp_path / "ut1")


def only_lists(**parameters):
    return UrlFilter(words=False, curated_sources=(), **parameters)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://bad.com/", "blocklisted_domain"),
        ("https://WWW.BAD.com:8080/x", "blocklisted_domain"),
        ("http://user@bad.com./x", "blocklisted_domain"),
        ("http://a.b.bad.com/x", "blocklisted_domain"),
        ("http://notbad.com/", ""),
        ("http://bad.com.example.org/", ""),
        ("http://com/", ""),
        ("http://worse.org/", "blocklisted_domain"),
        ("http://casino.example/", "blocklisted_domain"),
        ("http://news.example/", ""),  # a category that was not chosen
        ("http://x.sub.shared-host.net/", "blocklisted_domain"),
        ("http://shared-host.net/", ""),
        ("http://shared-host.net/~good/", ""),
        ("http://shared-host.net/~bad", "blocklisted_url"),
        ("http://www.shared-host.net/~bad/a/b?c=d", "blocklisted_url"),
        ("http://shared-host.net/~bad?c=d", "blocklisted_url"),
        ("http://shared-host.net/~badminton", ""),
        ("http://shared-host.net/%7Ebad", "blocklisted_url"),
        ("http://good.com/gallery/x.html", "blocklisted_url"),
        ("http://good.com/gallery/", ""),
        ("http://good.com/gallery/x.html5", ""),
        ("", ""),
        ("not an address", ""),
        ("http://bad\ud800.com/", ""),
        ("http://" + "a." * 5000 + "com/", ""),
    ],
)
def test_blocklist_directory(ut1, url, reason):
    assert judge(only_lists(blocklist=ut1, categories=["adult", "gambling"]), url).reason == reason


def test_a_top_level_domain_is_blocked_only_by_its_own_entry(tmp_path):
    with_com = only_lists(lists=[write(tmp_path / "a", "com\nexample.org\n")])
    assert judge(with_com, "http://any.com/").reason == "blocklisted_domain"
    assert judge(with_com, "http://any.org/").reason == ""
    suffix = only_lists(lists=[write(tmp_path / "b", "co.uk\n")])
    assert judge(suffix, "http://shop.co.uk/").reason == "blocklisted_domain"


LIST = """\ufeff# comment
! another
0.0.0.0 ads.example tracker.example # why
127.0.0.1\tlocalhost
::1 ip6-localhost
127.0.0.1 other.example
Upper.Example
*.wild.example
||blocker.example^
http://address.example/path/
bücher.example
xn--mnchen-3ya.example
port.example:8080
1.2.3.4

trailing.example.
"""


@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
def test_plain_lists(tmp_path, name):
    stage = only_lists(lists=[write(tmp_path / name, LIST.replace("\n", "\r\n"))])
    blocked = ["ads", "tracker", "other", "upper", "x.wild", "blocker", "bücher", "münchen", "port", "trailing"]
    for host in blocked:
        assert judge(stage, f"http://{host}.example/").reason == "blocklisted_domain", host
    assert judge(stage, "http://1.2.3.4/").reason == "blocklisted_domain"
    assert judge(stage, "http://address.example/path/deeper").reason == "blocklisted_url"
    for url in ("http://address.example/", "http://localhost/", "http://why/", "http://5.1.2.3.4/", "http://another/"):
        assert judge(stage, url).reason == ("" if "5." not in url else "blocklisted_domain"), url


HOSTS = st.lists(st.from_regex(r"[ab]{1,2}(\.[ab]){0,3}", fullmatch=True), max_size=12)


@given(HOSTS, HOSTS, st.sampled_from(["", "\n", "\n# comment\n", "\nWWW.x.y\n", "\n\n"]))
@settings(max_examples=150, deadline=None)
def test_the_quick_way_and_the_other_are_one(tmp_path_factory, blocked, asked, end):
    """Lists of plain hosts are read without looking at each line; a comment at the end takes the other way."""
    path = tmp_path_factory.mktemp("list") / "list"
    path.write_text("\n".join(blocked) + end)
    listed = blocklist._built([str(path)])
    for host in asked:
        parents = {host.split(".", count)[-1] for count in range(host.count(".") + 1)}
        assert listed.blocks_host(host) == bool(parents & set(blocked)), host


def test_lines_that_are_no_entries_are_counted(tmp_path, caplog):
    path = write(tmp_path / "list", "good.example\n<html>\n%%%\n")
    with caplog.at_level("WARNING"):
        assert judge(only_lists(lists=[path]), "http://good.example/").reason == "blocklisted_domain"
    assert "2 entries are no host and no address" in caplog.text


def test_a_cache_gives_the_same_and_is_used(ut1, tmp_path):
    cache = tmp_path / "cache"
    stage = only_lists(blocklist=ut1, categories=["adult"], cache=str(cache))
    assert judge(stage, "http://a.bad.com/").reason == "blocklisted_domain"
    names = sorted(path.name for path in cache.iterdir())
    assert len(names) == 4
    blocklist._LOADED.clear()
    stamps = [path.stat().st_mtime_ns for path in sorted(cache.iterdir())]
    assert judge(stage, "http://a.bad.com/").reason == "blocklisted_domain"
    assert judge(stage, "http://shared-host.net/~bad/x").reason == "blocklisted_url"
    assert judge(stage, "http://good.com/").reason == ""
    assert [path.stat().st_mtime_ns for path in sorted(cache.iterdir())] == stamps


@pytest.fixture
def lists(tmp_path):
    return {
        "strict_list": write(tmp_path / "strict", "# comment\npornhub\nfree-porn\n"),
        "hard_list": write(tmp_path / "hard", "porn\nпорно\n"),
        "soft_list": write(tmp_path / "soft", "sexy\nnude\ncasino\n"),
        "curated_sources": (),
    }


@pytest.mark.parametrize(
    ("url", "score"),
    [
        ("http://x.com/", 0),
        ("http://x.com/sexy", 0.5),  # exactly the highest score that is kept
        ("http://x.com/sexy-nude", 1),
        ("http://x.com/sexy/sexy/SEXY", 0.5),  # the same word again
        ("http://x.com/sexy_nude.casino", 1.5),
        ("http://x.com/porn", 1),
        ("http://x.com/porno", 0),
        ("http://p-orn.hub.com/", 1),
        ("http://x.com/por/nhub", 0),  # not across a slash
        ("http://x.com/xfreepornx", 1),
        ("http://x.com/%70orn", 1),
        ("http://x.com/%D0%BF%D0%BE%D1%80%D0%BD%D0%BE", 1),
        ("http://x.com/порно", 1),
        ("http://pornhub.com/porn-sexy", 2.5),
        ("porn://x.com/", 0),  # a scheme is no part of the address
        ("", 0),
        ("\0\ud800", 0),
        ("x" * 100_000 + "/porn", 0),  # what is behind 10,000 characters is no address
    ],
)
def test_word_scores(lists, url, score):
    stage = UrlFilter(**lists)
    assert stage.word_score(url) == score
    verdict = judge(stage, url)
    assert (verdict.reason, verdict.value) == (("url_words", score) if score > 0.5 else ("", None))


@given(st.text(alphabet="ab-./_ %?=&'A1", max_size=30), st.text(alphabet="abä-./—中\ud800", max_size=12))
@settings(max_examples=400, deadline=None)
def test_counts_like_a_naive_count(ascii_part, other_part):
    lists = url_words.UrlWords((b"ab", b"aba", b"b1", b"bb"), frozenset({b"a", b"ab", b"b1"}), frozenset({b"b", b"aa"}))
    for url in (ascii_part, ascii_part + other_part):
        text = unquote(url, errors="replace").lower()
        joined = re.sub(r"[\s.,_~+%'!*:;()\[\]-]+", "", text)
        words = set(re.findall(r"[^\W_]+", text))
        assert lists.counts(url) == (
            sum(entry in joined for entry in ("ab", "aba", "b1", "bb")),
            len(words & {"a", "ab", "b1"}),
            len(words & {"b", "aa"}),
        )


def test_no_words_at_all():
    assert url_words.UrlWords((), frozenset(), frozenset()).counts("http://x.com/porn") == (0, 0, 0)


def test_weights_and_limit(lists):
    assert judge(UrlFilter(**lists, soft_weight=0, hard_weight=0), "http://x.com/porn/sexy/nude").reason == ""
    strict = UrlFilter(**lists, max_word_score=0)
    assert judge(strict, "http://x.com/sexy").reason == "url_words"
    assert judge(UrlFilter(**lists, max_word_score=1), "http://x.com/porn").reason == ""
    assert judge(UrlFilter(**lists, words=False, lists=[lists["hard_list"]]), "http://x.com/porn").reason == ""


INNOCENT = [
    *("https://www.essex.ac.uk/", "https://www.essex-shop.co.uk/essex-campus", "https://www.sussex.ac.uk/study"),
    *("https://www.scunthorpe.gov.uk/", "https://www.middlesex.edu/", "https://the-rapist.example/therapists"),
    *("https://therapist-finder.com/therapists/london", "https://analytics.google.com/analytics/web"),
    *("https://www.cockburn.wa.gov.au/", "https://www.example.com/cocktails", "https://peacock.example/"),
    *("https://linux-video.org/", "https://olives-export.com/", "https://www.secondhand-jobs.de/"),
    *("https://gang-bangladesh.example/", "https://group-skirts.example/", "https://whentaiwan.example/"),
    *("https://ice-cream-pie.example/recipe", "https://www.penistone.gov.uk/", "https://lesbians-experience.org/"),
    *("https://gay-teen-support.org/", "https://example.edu/sex-education", "https://birds.example/blue-tits"),
    *("https://example.org/philip-k-dick", "https://news.example/three-somerset-farms", "https://www.fuk.jp/"),
    *("https://bank.example/analysis/assets/class", "https://www.hardcore-history.com/", "https://titus.example/"),
    *("https://pornic.fr/", "https://example.com/vapor-now", "https://health.example/viagra", "https://cumlaude.nl/"),
]


@pytest.mark.parametrize("url", INNOCENT)
def test_innocent_names_stay(url):
    assert judge(UrlFilter(), url).reason == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://www.free-porn-videos.example/",
        "http://x.example/hentai",
        "http://x.example/sexy-naked-babes.html",
        "http://x.example/casino-poker-slots",
        "http://x.example/%D0%BF%D0%BE%D1%80%D0%BD%D0%BE",
    ],
)
def test_the_lists_that_come_along_find_what_they_are_for(url):
    assert judge(UrlFilter(), url).reason == "url_words"


def test_no_strict_entry_arises_where_two_words_of_real_pages_meet(shared_data):
    counts: dict[str, int] = defaultdict(int)
    with gzip.open(shared_data / "web" / "pages.gold.jsonl.gz", "rt") as file:
        for line in file:
            for word in set(re.findall(r"[a-z]+", json.loads(line).get("main_content", "").lower())):
                counts[word] += 1
    meant = re.compile("porn|nude|naked|xxx|sex|fuck|tits|boob|milf|casino|escort|pussy")
    words = {word for word, count in counts.items() if count > 1 and len(word) > 1 and not meant.search(word)}
    assert len(words) > 10_000
    starts = {word[:length] for word in words for length in range(1, len(word) + 1)}
    ends = {word[-length:] for word in words for length in range(1, len(word) + 1)}
    strict = [entry.decode() for entry in url_words.load().strict]
    assert len(strict) >= 40
    for entry in strict:
        meetings = [entry[:cut] for cut in range(1, len(entry)) if entry[:cut] in ends and entry[cut:] in starts]
        assert not meetings, entry
        assert not [word for word in words if entry in word]


def test_real_pages_are_not_rejected_for_their_words(shared_data):
    with gzip.open(shared_data / "web" / "pages.gold.jsonl.gz", "rt") as file:
        urls = [json.loads(line)["url"] for line in file]
    assert len(urls) > 500
    stage = UrlFilter(curated_sources=())
    assert [url for url in urls if judge(stage, url).reason] == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://en.wikipedia.org/wiki/X", "curated_source"),
        ("https://en.m.wikipedia.org/wiki/X", "curated_source"),
        ("https://wikipedia.org.example.com/", ""),
        ("https://notwikipedia.org/", ""),
        ("https://math.stackexchange.com/", "curated_source"),
        ("https://github.com/a/b", "curated_source"),
        ("https://user.github.io/", ""),
        ("https://arxiv.org/abs/1", "curated_source"),
    ],
)
def test_curated_sources(url, reason):
    assert judge(UrlFilter(words=False), url).reason == reason
    assert judge(UrlFilter(curated_sources=()), url).reason == ""


def test_the_sixteen_kinds_are_spelt_as_hosts_are():
    assert len(SITES) == 16
    assert len(set(CURATED_SOURCES)) == len(CURATED_SOURCES)
    assert [normalise_host(site) for site in CURATED_SOURCES] == list(CURATED_SOURCES)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"blocklist": "{ut1}", "categories": ["adult", "nosuch"]},
            r"no category nosuch; there are adult, gambling, p",
        ),
        ({"blocklist": "{ut1}"}, r"no category phishing"),
        ({"blocklist": "{ut1}", "categories": []}, "categories is empty"),
        ({"blocklist": "{tmp}/nowhere"}, r"nowhere: no blocklist in the UT1 format"),
        ({"blocklist": "{ut1}/adult"}, r"no blocklist in the UT1 format"),
        ({"lists": ["{tmp}/nowhere"]}, r"nowhere: no such"),
        ({"lists": ["{ut1}"]}, r"ut1 is a folder"),
        ({"hard_list": "{tmp}/nowhere"}, r"nowhere: no such file"),
        ({"words": False, "curated_sources": ()}, "no rule left"),
        ({"soft_weight": -1}, "soft_weight is below 0"),
        ({"soft_weight": float("nan")}, "soft_weight is below 0"),
        ({"max_word_score": -0.1}, "max_word_score is below 0"),
        ({"curated_sources": ["https://www.Example.com/"]}, r"write 'https://www.Example.com/' as 'example.com'"),
    ],
)
def test_bad_parameters_say_what_and_where(ut1, tmp_path, parameters, message):
    def filled(value):
        if isinstance(value, list):
            return [filled(item) for item in value]
        return value.format(ut1=ut1, tmp=tmp_path) if isinstance(value, str) else value

    with pytest.raises(UserError, match=message):
        UrlFilter(**{key: filled(value) for key, value in parameters.items()})


def test_entries_that_cannot_match(tmp_path, lists):
    with pytest.raises(UserError, match="not a single word"):
        UrlFilter(**{**lists, "hard_list": write(tmp_path / "h", "two words\n")}).word_score("http://x/")
    with pytest.raises(UserError, match="no letter or digit"):
        UrlFilter(**{**lists, "strict_list": write(tmp_path / "s", "-.-\n")}).word_score("http://x/")
    (tmp_path / "l").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        UrlFilter(**{**lists, "soft_list": str(tmp_path / "l")}).word_score("http://x/")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"a.example\n" * 100)[:-10])
    with pytest.raises(UserError, match="damaged gzip"):
        judge(only_lists(lists=[str(tmp_path / "cut.gz")]), "http://x/")


def test_the_stage_pickles_and_changed_lists_change_its_configuration(ut1, tmp_path):
    stage = only_lists(blocklist=ut1, categories=["adult"])
    assert isinstance(stage, PageStage)
    assert pickle.loads(pickle.dumps(stage)) == stage
    before = configuration(stage)
    assert before == configuration(only_lists(blocklist=ut1, categories=["adult"]))
    write(tmp_path / "ut1" / "adult" / "domains", "bad.com\n")
    assert configuration(only_lists(blocklist=ut1, categories=["adult"])) != before


def test_kept_pages_give_all_signals(ut1):
    page = Page("id", "file", 0, "web", "http://x.example/sexy", "", b"", "", True)
    measures = list(UrlFilter(blocklist=ut1, categories=["adult"]).page_measures(page))
    assert [(measure.signal, measure.value) for measure in measures] == [
        ("curated_source", 0),
        ("blocklisted_domain", 0),
        ("blocklisted_url", 0),
        ("url_words", 0.5),
    ]
