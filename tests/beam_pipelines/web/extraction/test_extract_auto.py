"""The router of `auto`: its signals, its choice, the vote; and its stored coefficients are what the fit gives."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.web.document import Page
from beam_pipelines.web.extraction import extract_auto, extractors
from beam_pipelines.web.extraction.extract import DOUBT, extract_page
from beam_pipelines.web.extraction.extract_auto import SHORT_LINE, Signals, choose, overlap, signals, vote, words_of
from benchmarks import web_extraction, web_extraction_fit
from benchmarks.web_extraction_pages import GoldPage, Readings, pages_with_gold, read_pages, readings, site, word_f1

PROSE = "Long lines of prose that go on and on are what an article is made of, and there are many of them. " * 4


def test_signals():
    main, body = "x" * SHORT_LINE + "\n\n  " + "x" * (SHORT_LINE - 1), "abc\n" + "y" * 57
    found = signals(main, body, 0.25)
    assert found.share == len(main) / (len(main) + len(body))
    assert found.agreement == 0.25
    assert (found.short_main, found.short_body) == (0.5, 0.5)  # exactly SHORT_LINE is not short, blank lines are none
    assert found.line_main == math.log(1 + (2 * SHORT_LINE - 1) / 2)
    assert found.line_body == math.log(1 + 60 / 2)
    assert signals("", "", 0.0) == Signals(0.5, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert signals("", "a", 0.0).share == 0


def test_overlap():
    assert overlap(words_of("a b b"), words_of("b c")) == pytest.approx(0.4)
    assert overlap(words_of(""), words_of("")) == 0
    assert overlap(words_of("a  b\n"), words_of("b a")) == 1


@given(st.text(alphabet="ab \n", max_size=40), st.text(alphabet="ab \n", max_size=40))
def test_signals_are_finite_and_overlap_is_symmetric(main, body):
    first, second = words_of(main), words_of(body)
    assert overlap(first, second) == overlap(second, first) <= 1
    assert all(map(math.isfinite, signals(main, body, overlap(first, second))))


def test_the_reading_with_more_expected_f1_is_chosen(monkeypatch):
    # Gain = agreement - .5, so that the signal at hand decides.
    monkeypatch.setattr(extract_auto, "INTERCEPT", -0.5)
    monkeypatch.setattr(extract_auto, "COEFFICIENTS", Signals(0, 1, 0, 0, 0, 0))
    assert not choose(PROSE, PROSE, 0.5, 0).body  # a tie is main's
    assert choose(PROSE, PROSE, 0.501, 0).body
    # Doubtful below doubt x (1 - agreement): |.25 - .5| = .25 against doubt x .75.
    assert not choose(PROSE, PROSE, 0.25, 1 / 3).doubtful
    assert choose(PROSE, PROSE, 0.25, 0.34).doubtful
    assert not choose(PROSE, PROSE, 0.5, 0).doubtful
    assert not choose(PROSE, PROSE, 1, 1).doubtful  # nothing to gain where both agree


def test_hardly_any_text_is_always_in_doubt():
    enough, little = "x" * extractors.SHORT_TEXT, "x" * (extractors.SHORT_TEXT - 1)
    assert choose(little, little, 1.0, 0.01).doubtful
    assert not choose(little, enough, 1.0, 0.01).doubtful
    assert not choose(little, little, 1.0, 0).doubtful


def test_vote():
    texts = [PROSE, PROSE + "one two three", PROSE + "one two three four five six"]
    assert vote(*texts) == 1
    assert vote(texts[1], texts[0], texts[2]) == 0
    assert vote(texts[0], texts[2], texts[1]) == 2
    assert vote("loading", "loading", "") == 2
    assert vote(PROSE, PROSE, "") == 0


def test_a_page_of_prose_needs_no_slow_extractor(warc):
    called = []
    content = warc.html_page("\n".join(map(warc.prose, range(8))))
    found = extract_page(content, "", "auto", before_slow=called.append)
    assert not called
    assert found.text.count("The river rises") == 8


def test_main_content_is_what_html_says_it_is():
    from resiliparse.parse.html import HTMLTree

    def landmarks(html):
        return extractors.landmarks(HTMLTree.parse(html))[0]

    rest = f"<div>{PROSE}advertisement</div>"
    assert landmarks(f"<body>{rest}<main><p>{PROSE}</p></main>{rest}") == PROSE.strip()
    assert landmarks(f"<body>{rest}<div role=main><p>{PROSE}</p></div>{rest}") == PROSE.strip()
    assert landmarks(f"<body>{rest}<article><p>{PROSE}</p></article>{rest}") == PROSE.strip()
    # Too little in it, or several: the whole page counts.
    assert "advertisement" in landmarks(f"<body>{rest}<main>empty</main>")
    assert "advertisement" in landmarks(f"<body><article>{PROSE}</article>{rest}<article>{PROSE}</article>")
    assert (
        landmarks(f"<body><div class=SiteMenu>no</div><ul id=cookie-bar>no</ul>{PROSE}<nav>no</nav>") == PROSE.strip()
    )
    assert landmarks(f"<body class='menu-open'>{PROSE}") == PROSE.strip()
    assert landmarks("") == ""


def test_word_f1():
    assert word_f1("a b b c", "B b. d") == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert word_f1("a", "") == word_f1("", "a") == word_f1("", "") == 0
    assert site("https://www.shop.example.com/x") == "example.com"


def made_readings(pages=60, seed=0):
    """Pages whose body gains what their first signal says."""
    random = np.random.default_rng(seed)
    drawn = random.normal(size=(pages, 6))
    main = np.full(pages, 0.5)
    f1 = np.stack([main, main + 0.1 * drawn[:, 0], random.uniform(0.2, 0.9, pages)], axis=1)
    sites = [f"site{number // 2}" for number in range(pages)]
    return Readings(f1, random.uniform(0.2, 0.9, (pages, 3)), np.zeros(pages, bool), drawn, np.full(pages, 0.04), sites)


def test_the_fit_finds_the_signal():
    found = made_readings()
    router = web_extraction_fit.fit(found.signals, found.f1[:, 1] - found.f1[:, 0], penalty=1e-6)
    np.testing.assert_allclose(router.coefficients, [0.1, 0, 0, 0, 0, 0], atol=1e-6)
    assert router.intercept == pytest.approx(0, abs=1e-6)
    held_out = web_extraction_fit.held_out_gain(found, seed=1)
    better = np.maximum(found.f1[:, 0], found.f1[:, 1]).mean()
    assert web_extraction_fit.fast_choice(found, held_out).mean() > 0.98 * better


def test_a_site_is_in_one_fold():
    sites = [f"s{number % 7}" for number in range(40)]
    fold = web_extraction_fit.folds(sites, 3, seed=2)
    assert set(fold) == {0, 1, 2}
    assert all(len({f for f, s in zip(fold, sites, strict=True) if s == name}) == 1 for name in set(sites))


def test_the_frontier_is_bounded_by_its_routers():
    points = web_extraction.frontier(made_readings(), 0.005, doubts=(0.0, 0.1, 0.5, 1.0, math.inf))
    assert (points[0].share, points[-1].share) == (0, 1)
    assert points[0].f1 == points[0].random == points[0].perfect
    assert points[0].seconds == 0.005
    for before, point in itertools.pairwise(points):
        assert point.share >= before.share
        assert point.perfect >= max(point.f1, before.perfect)
        assert point.seconds == pytest.approx(0.005 + 0.04 * point.share)


def test_the_benchmark_without_a_peer(capsys, tmp_path):
    assert web_extraction.main(["--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("skipped: no pages")


def test_the_stored_coefficients_are_those_of_the_fit(shared_data):
    pages = read_pages(shared_data / "web")
    assert len(pages) == 564
    assert len(pages_with_gold(pages)) == 558
    found = readings(pages, slow=False)
    router = web_extraction_fit.fit(found.signals, found.f1[:, 1] - found.f1[:, 0])
    assert router.intercept == pytest.approx(extract_auto.INTERCEPT, abs=1e-3)
    np.testing.assert_allclose(router.coefficients, extract_auto.COEFFICIENTS, atol=1e-3)
    # trafilatura's defaults reach .840 on these pages; the fast readings alone are above it, held out.
    held_out = web_extraction_fit.fast_choice(found, web_extraction_fit.held_out_gain(found, seed=0)).mean()
    assert held_out > 0.86
    assert found.f1[:, 1].mean() > 0.84


def test_a_page_is_read_as_the_benchmark_reads_it(warc):
    page = Page("", "f", 0, "s", "http://x/", "", warc.html_page(warc.prose(1)), "", True)
    pages = [GoldPage(page, "article", " - "), GoldPage(page, "article", warc.prose(1))]
    assert pages_with_gold(pages).tolist() == [1]
    found = readings(pages)
    np.testing.assert_array_equal(found.f1, [[1, 1, 1]])
    np.testing.assert_array_equal(found.agreement, [[1, 1, 1]])
    assert found.sites == ["x"]
    assert 0 < DOUBT < 1
