"""One page, one spelling; different pages stay different."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_pipelines.web.urls.url_normal import normalise_host, normalise_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTPS://user@www.Example.com:443/a/../b/?utm_source=x&z=1&a=%7e#top", "example.com/b?a=~&z=1"),
        ("http://example.com", "example.com"),
        ("http://example.com/", "example.com"),
        ("http://example.com//", "example.com"),
        ("http://example.com./a/", "example.com/a"),
        ("http://example.com:80/a", "example.com/a"),
        ("http://example.com.:80/a", "example.com/a"),
        ("http://example.com:8080/a", "example.com:8080/a"),
        ("http://example.com.:8080/a", "example.com:8080/a"),
        ("http://example.com:/a", "example.com/a"),
        ("//example.com/a", "example.com/a"),
        ("example.com/a", "example.com/a"),
        ("  http://example.com/a\n", "example.com/a"),
        ("http://example.com/A", "example.com/A"),  # paths are case-sensitive
        ("http://example.com/a?b=2&a=1&c", "example.com/a?a=1&b=2&c"),
        ("http://example.com/a?", "example.com/a"),
        ("http://example.com/a?&&", "example.com/a"),
        ("http://example.com/?q=1", "example.com?q=1"),
        ("http://example.com?q=1", "example.com?q=1"),
        ("http://example.com/a?UTM_Medium=m&gclid=1&fbclid=2&utm%5Fsource=3", "example.com/a"),
        ("http://example.com/a?ref=main&id=7", "example.com/a?id=7&ref=main"),
        ("http://example.com/a?q=utm_source", "example.com/a?q=utm_source"),
        ("http://example.com/a;jsessionid=12AB?x=1", "example.com/a?x=1"),
        ("http://example.com/a?x=1&PHPSESSID=1", "example.com/a?x=1"),
        ("http://example.com/a#!/page", "example.com/a"),
        ("http://example.com/%e4%b8%ad", "example.com/%E4%B8%AD"),
        ("http://example.com/中", "example.com/%E4%B8%AD"),
        ("http://example.com/a b", "example.com/a%20b"),
        ("http://example.com/100%", "example.com/100%25"),
        ("http://example.com/a%2Fb", "example.com/a%2Fb"),  # an encoded slash is no slash
        ("http://example.com\\a\\b", "example.com/a/b"),
        ("http://bücher.example/", "xn--bcher-kva.example"),
        ("http://BÜCHER.example:81/", "xn--bcher-kva.example:81"),
        ("http://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://www.com/", "www.com"),
        ("http://www.www.com/", "www.com"),
        ("http://[::1]:80/a", "[::1]/a"),
        ("http:///example.com/a", "example.com/a"),
        ("http://ex\ufffdample.com\ud800/", "ex%ef%bf%bdample.com%3f"),
        ("http://℀.com/", "%e2%84%80.com"),  # its compatibility form holds a slash
        ("", ""),
        ("http://", ""),
        ("#", ""),
        ("?", ""),
    ],
)
def test_spellings(url, expected):
    assert normalise_url(url) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://a.com/x", "http://b.com/x"),
        ("http://a.com/x", "http://sub.a.com/x"),
        ("http://a.com/x?id=1", "http://a.com/x?id=2"),
        ("http://a.com/x?id=1", "http://a.com/x"),
        ("http://a.com:8080/", "http://a.com/"),
        ("http://a.com/index.html", "http://a.com/"),
    ],
)
def test_different_pages_stay_different(one, other):
    assert normalise_url(one) != normalise_url(other)


URLS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="aZ.:/?#&=%@w\\[]0418~ ;\t\0ü中\u3002\ud800", max_size=40),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "http://", "HTTPS://", "//", "http://www.", "http://u:p@", "http:///", "www."]),
        st.text(alphabet="abw.:@ü", max_size=12),
        st.text(alphabet="/.%2eE?&=#;a ", max_size=20),
    ),
)


@given(URLS)
@settings(max_examples=600, deadline=None)
@example("http://www./www.a.b/")
@example("http://%%34%31/%%34%31")
@example("a@//www.b//..//c/./%2e%2e/d")
def test_applying_it_twice_changes_nothing(url):
    once = normalise_url(url)
    assert normalise_url(once) == once
    once.encode("ascii")


HOSTS = st.from_regex(r"[a-z]{1,8}(\.[a-z]{2,6}){1,2}", fullmatch=True).filter(lambda host: not host.startswith("www."))
KEYS = st.dictionaries(st.from_regex(r"[b-f]{1,3}", fullmatch=True), st.from_regex(r"[a-z0-9]{0,4}", fullmatch=True))


@given(HOSTS, st.lists(st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), max_size=3), KEYS, st.randoms())
@settings(max_examples=200, deadline=None)
def test_all_spellings_of_a_page_are_one(host, segments, parameters, random):
    path = "/".join(segments)
    pieces = [f"{key}={value}" for key, value in parameters.items()]
    plain = f"http://{host}/{path}" + ("?" + "&".join(pieces) if pieces else "")
    noisy = [*pieces, "utm_source=x", "gclid=1"]
    random.shuffle(noisy)
    scheme, www, port, slash = (
        random.choice(choices) for choices in (("http", "HTTPS"), ("", "www.", "WWW."), ("", ":80", ":443"), ("", "/"))
    )
    other = f"{scheme}://{www}{host.upper()}{port}/{path}{slash if path else ''}?{'&'.join(noisy)}#part"
    assert normalise_url(plain) == normalise_url(other)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://me@WWW.Bücher.example.:8080/a", "xn--bcher-kva.example"),
        ("https://a.b.example.com/", "a.b.example.com"),
        ("a.b.example.com", "a.b.example.com"),
        ("http://evil.com@good.com/", "good.com"),
        ("http://[2001:db8::1]:8080/", "[2001:db8::1]"),
        ("http://127.0.0.1:81/", "127.0.0.1"),
        ("", ""),
        ("/a/b", "a"),
    ],
)
def test_host(url, host):
    assert normalise_host(url) == host


def test_long_addresses_take_linear_time():
    start = time.perf_counter()
    for url in ("http://" + "www." * 50_000, "http://a" + "." * 200_000 + "b", "/" * 200_000, "a/" + "../a/" * 50_000):
        normalise_url(url)
    assert time.perf_counter() - start < 5
