"""Main text of web pages: word F1 and pages per second of every extractor, and of `auto` from all-fast to all-slow.

    python -m benchmarks.web_extraction --peer_python /path/to/environment/bin/python [--data FOLDER] [--plot PNG]

The peer is trafilatura with its defaults in an environment of its own (requirements: trafilatura==2.3.1,
lxml_html_clean). Times are processor seconds of one process, from the page's bytes to its text; ours include encoding,
title and meta tags. Both sides run in turn. F1 is that of the bags of lower-cased words, mean over the pages of which a
person kept anything, no output counting 0. The router's F1 is held out: every page is routed by coefficients that were
fitted on other sites. (Which signals and which tags and names are skipped was decided once, with all pages in sight;
without the names the router reaches .855, with neither tags nor names .845.)
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from beam_pipelines.web.extraction.extract import DOUBT, Method, extract_page
from benchmarks.harness import compare, ratio_line
from benchmarks.web_extraction_fit import SHUFFLINGS, fast_choice, held_out_gain
from benchmarks.web_extraction_pages import (
    DATA,
    GoldPage,
    Readings,
    pages_with_gold,
    read_pages,
    readings,
    timed,
    word_f1,
)

DOUBTS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0, math.inf)  # all-fast to all-slow

# What the peer's environment runs: argv is a folder with one file per page; prints seconds and texts as JSON.
PEER = r"""
import json, sys, time
from pathlib import Path
try:
    import trafilatura
except ImportError:
    sys.exit(3)
pages = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
trafilatura.extract("<html><body><p>warm</p></body></html>")
start = time.process_time()
texts = [trafilatura.extract(page) or "" for page in pages]
print(json.dumps({"version": trafilatura.__version__, "seconds": time.process_time() - start, "texts": texts}))
"""


class Point(NamedTuple):
    """`auto` at one value of `doubt`.

    Attributes:
      share: of the pages that the slow extractor reads.
      f1: held out; `random` with as many pages drawn at random; `perfect` with the pages that gain most, each given
        the best of its texts.
      seconds: of a page, by the times of its readings.
    """

    doubt: float
    share: float
    f1: float
    random: float
    perfect: float
    seconds: float


def voted_f1(found: Readings) -> np.ndarray:
    """F1 of what the vote of the three texts gives, float64[pages]; as `extract_auto.vote`."""
    first, second, third = found.agreement.T
    scores = np.stack([first + second, first + third, second + third], axis=1)
    winner = np.where(found.empty, 2, scores.argmax(1))
    return found.f1[np.arange(len(winner)), winner]


def doubtful(found: Readings, gain: np.ndarray, doubt: float) -> np.ndarray:
    """Pages that the slow extractor reads, bool[pages]; as `extract_auto.choose`, and all of them at infinite doubt."""
    if doubt == math.inf:
        return np.ones(len(gain), bool)
    return (np.abs(gain) < doubt * (1 - found.agreement[:, 0])) | (found.empty & (doubt > 0))


def frontier(found: Readings, fast_seconds: float, doubts: Sequence[float] = DOUBTS) -> list[Point]:
    """The points of `auto`, each the mean over several shufflings of the folds.

    Args:
      fast_seconds: of a page without the slow extractor.
    """
    voted, best = voted_f1(found), found.f1.max(1)
    gains = [held_out_gain(found, seed) for seed in range(SHUFFLINGS)]
    points = []
    for doubt in doubts:
        rows = []
        for gain in gains:
            fast = fast_choice(found, gain)
            routed = doubtful(found, gain, doubt)
            share = routed.mean()
            worth = np.argsort(fast - best)[: routed.sum()]
            perfect = fast.copy()
            perfect[worth] = best[worth]
            chance = share * voted.mean() + (1 - share) * fast.mean()
            seconds = fast_seconds + (routed * found.slow_seconds).mean()
            rows.append((share, np.where(routed, voted, fast).mean(), chance, perfect.mean(), seconds))
        points.append(Point(doubt, *map(float, np.mean(rows, axis=0))))
    return points


def mean_f1(pages: Sequence[GoldPage], texts: Sequence[str]) -> float:
    """Over the pages with gold."""
    return float(np.mean([word_f1(pages[place].gold, texts[place]) for place in pages_with_gold(pages)]))


def print_methods(pages: Sequence[GoldPage]) -> None:
    """One line per method, `auto` with the coefficients it ships with (in sample)."""
    print(f"{'method':<12} {'word F1':>8} {'pages/s':>8}")
    for method in get_args(Method):
        texts, seconds = timed(lambda page, m=method: extract_page(page.page.content, "", m).text, pages)
        print(f"{method:<12} {mean_f1(pages, texts):8.4f} {len(pages) / seconds.sum():8.1f}", flush=True)


def print_frontier(points: Sequence[Point]) -> None:
    """One line per value of `doubt`."""
    print(f"\n{'doubt':>5} {'to slow':>8} {'F1 held out':>12} {'random':>8} {'perfect':>8} {'pages/s':>8}")
    for point in points:
        figures = f"{point.f1:12.4f} {point.random:8.4f} {point.perfect:8.4f} {1 / point.seconds:8.1f}"
        print(f"{point.doubt:5.2f} {point.share:8.1%} {figures}")


def plot(points: Sequence[Point], peer: tuple[float, float], path: str) -> None:
    """F1 against the share routed and against pages/s; `peer` is (pages/s, F1)."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    share, rate = [100 * point.share for point in points], [1 / point.seconds for point in points]
    for name, style in (("perfect", "--"), ("f1", "o-"), ("random", ":")):
        label = {"f1": "auto, held out", "perfect": "perfect router", "random": "random router"}[name]
        values = [getattr(point, name) for point in points]
        left.plot(share, values, style, label=label)
        right.plot(rate, values, style, label=label)
    right.plot(*peer, "k*", markersize=12, label="trafilatura, defaults")
    right.axvline(3 * peer[0], color="grey", linewidth=0.8)
    right.annotate("3 times its speed", (3 * peer[0], peer[1]), rotation=90, fontsize=8, ha="right", va="bottom")
    left.set(xlabel="pages read by the slow extractor, %", ylabel="word F1")
    right.set(xlabel="pages per second, one core", xscale="log")
    right.xaxis.set_major_locator(FixedLocator([20, 30, 50, 70, 100, 150, 200]))
    right.xaxis.set_minor_locator(NullLocator())
    right.xaxis.set_major_formatter("{x:.0f}")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def run_peer(python: str, folder: str) -> dict:
    """One pass of the peer over the pages in `folder`."""
    done = subprocess.run([python, "-c", PEER, folder], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        return {}
    if done.returncode:
        sys.exit(f"the peer failed: {done.stderr}")
    return json.loads(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables; the ratio is the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that can import trafilatura")
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the pages and their gold text")
    parser.add_argument("--pages", type=int, default=0, help="only the first so many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", help="PNG of the frontier")
    arguments = parser.parse_args(argv)
    if not (arguments.data / "pages.gold.jsonl.gz").exists():
        print(f"skipped: no pages in {arguments.data}; pass --data")
        return 0
    pages = read_pages(arguments.data, arguments.pages)
    with tempfile.TemporaryDirectory() as folder:
        for number, page in enumerate(pages):
            Path(folder, f"{number:06d}").write_bytes(page.page.content)
        peer = run_peer(arguments.peer_python, folder)
        if not peer:
            print(f"skipped: {arguments.peer_python} has no trafilatura; install it in an environment, --peer_python")
            return 0
        print_methods(pages)
        found = readings(pages)
        _, fast_seconds = timed(lambda page: extract_page(page.page.content, "", "auto", doubt=0).text, pages)
        points = frontier(found, float(fast_seconds.mean()))
        print_frontier(points)

        def ours() -> float:
            return len(pages) / timed(lambda page: extract_page(page.page.content, "", "auto").text, pages)[1].sum()

        result = compare(
            ours, lambda: len(pages) / run_peer(arguments.peer_python, folder)["seconds"], arguments.repeats
        )
    peer_f1 = mean_f1(pages, peer["texts"])
    if arguments.plot:
        plot(points, (result.peer, peer_f1), arguments.plot)
    own_f1 = next(point.f1 for point in points if point.doubt == DOUBT)
    print(f"\ntrafilatura {peer['version']}, defaults: word F1 {peer_f1:.4f}")
    what = f"auto at word F1 {own_f1:.3f} held out, trafilatura {peer['version']} at {peer_f1:.3f}, {len(pages)} pages"
    print(ratio_line(what, "pages/s", result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
