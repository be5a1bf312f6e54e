"""URL filter with five million blocked domains: memory and time of a lookup, and addresses judged per second.

    python -m benchmarks.web_url_filter --peer_python /path/to/environment/bin/python

Ours, a Python set of strings with the same walk up the domains, and datatrove's URLFilter (in its own environment,
`pip install datatrove tldextract pyahocorasick fasteners`) take turns, each in a process of its own, with the same made
domains and addresses and the same word lists (ours; datatrove gets them as `banned_subwords`, `banned_words`,
`soft_banned_words`). Seconds are processor time; memory is what stays resident beyond the process before it loads the
domains, and the peak while it loads. Where they do not agree on an address it is counted; datatrove looks at the
registered domain and the whole host only.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Comparison, ratio_line

# Every side is this program with its own `build` in front, which gives `judge(url)` and `lookup(host)`, or None.
# argv: folder of the files. Prints memory in bytes, seconds an item, and the numbers of the rejected addresses.
MEASURE = r"""
import json, os, resource, sys, time
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def lines(name):
    with open(os.path.join(sys.argv[1], name), encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file]
urls, hosts = lines("urls"), lines("hosts")
before = resident()
start = time.process_time()
judge, lookup = build(os.path.join(sys.argv[1], "domains"))
loading = time.process_time() - start
held = resident() - before
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
result = {"held": held, "peak": peak, "loading": loading}
if lookup:
    start = time.process_time()
    found = sum(map(lookup, hosts))
    result["lookup"], result["found"] = (time.process_time() - start) / len(hosts), found
if judge:
    start = time.process_time()
    kept = [judge(url) for url in urls]
    result["page"] = (time.process_time() - start) / len(urls)
    result["rejected"] = [number for number, keep in enumerate(kept) if not keep]
print(json.dumps(result))
"""

OURS = r"""
import os
from beam_pipelines.web.urls import blocklist
from beam_pipelines.web.urls import url_words
from beam_pipelines.web.document import Page, take_measures
from beam_pipelines.web.urls.url_filter import UrlFilter
blocklist.load("", (), (os.devnull,)), url_words.load()
def build(path):
    stage = UrlFilter(lists=[path], curated_sources=())
    def judge(url):
        return not take_measures(stage.page_measures(Page("", "", 0, "", url, "", b"", "", True)))[0].reason
    judge("http://x/")
    return judge, blocklist.load("", stage.categories, (path,)).blocks_host
"""

SET = r"""
def build(path):
    with open(path) as file:
        blocked = {line.rstrip("\n") for line in file}
    def lookup(host):
        while True:
            if host in blocked:
                return True
            _, _, host = host.partition(".")
            if "." not in host:
                return False
    return None, lookup
"""

DATATROVE = r"""
try:
    import os, sys
    from datatrove.data import Document
    from datatrove.pipeline.filters import URLFilter
    import ahocorasick, fasteners, tldextract
except ImportError:
    sys.exit(3)
def build(path):
    words = {name: lines(name) for name in ("strict", "hard", "soft")}
    with open(path) as file:
        stage = URLFilter(extra_domains=file, banned_subwords=words["strict"], banned_words=words["hard"],
                          soft_banned_words=words["soft"], use_integrated_lists=False)
    # The list of suffixes that comes with the package: the default one is downloaded.
    stage.tldextractor = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)
    def judge(url):
        return stage.filter(Document(text="", id="", metadata={"url": url})) is True
    judge("http://x.org/")
    return judge, None
"""


def write_inputs(folder: Path, domains: int, pages: int) -> None:
    """Made domains and addresses, the same everywhere: one address in ten is blocked, half of them by a parent."""
    from beam_pipelines.web.urls import url_words
    from beam_pipelines.web.urls.url_normal import normalise_host

    generator = random.Random(0)
    with open(folder / "domains", "w") as file:
        for number in range(domains):
            file.write(f"{_name(number)}.{('com', 'net', 'org', 'de')[number % 4]}\n")
    urls = []
    for number in range(pages):
        if number % 10 == 0:
            blocked = generator.randrange(domains)
            host = f"{_name(blocked)}.{('com', 'net', 'org', 'de')[blocked % 4]}"
            host = host if number % 20 else f"sub{number}.{host}"
        else:
            host = f"{generator.choice(('www.', '', 'blog.', 'a.b.'))}{_name(generator.randrange(domains))}x.com"
        path = "/".join(generator.choice(("news", "2024", "article", "shop", "item-7", "about")) for _ in range(4))
        urls.append(f"https://{host}/{path}-{number}.html")
    (folder / "urls").write_text("".join(f"{url}\n" for url in urls))
    (folder / "hosts").write_text("".join(f"{normalise_host(url)}\n" for url in urls))
    words = url_words.load()
    for name in url_words.SEVERITIES:
        entries = sorted(word.decode() for word in getattr(words, name) if word.isascii())
        (folder / name).write_text("".join(f"{entry}\n" for entry in entries))


def _name(number: int) -> str:
    """A name of syllables that no list of words knows, different for each number."""
    syllables, name = ("ba", "ko", "ri", "lu", "te", "mi", "no", "sa", "du", "ve", "go", "pa", "zi"), ""
    number += 13**4
    while number:
        number, digit = divmod(number, 13)
        name += syllables[digit]
    return name


def measured(python: str, program: str, folder: Path) -> dict[str, Any] | None:
    """One process of one side; None if the interpreter lacks the peer."""
    command = [python, "-c", program + MEASURE, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode == 3:
        return None
    if run.returncode:
        sys.exit(f"a side failed: {run.stderr[-2000:]}")
    return json.loads(run.stdout)


def _report(sides: dict[str, list[dict[str, Any]]], domains: int) -> None:
    """One line a side, and where the judgements differ."""
    print(f"{domains:,} domains, medians of {len(sides['ours'])} processes")
    for name, runs in sides.items():

        def middle(key: str, runs: list[dict[str, Any]] = runs) -> float:
            return statistics.median(run[key] for run in runs) if key in runs[0] else float("nan")

        print(
            f"{name:10} {middle('held') / 1e6:7.0f} MB held, {middle('peak') / 1e6:7.0f} MB at most, "
            f"{middle('loading'):6.1f} s to load, {middle('lookup') * 1e6:6.2f} us a host, "
            f"{middle('page') * 1e6:6.1f} us an address"
        )
    assert sides["ours"][0]["found"] == sides["set"][0]["found"], "the table and the set disagree"
    if "datatrove" in sides:
        ours, theirs = (set(sides[name][0]["rejected"]) for name in ("ours", "datatrove"))
        print(f"rejected: ours {len(ours)}, datatrove {len(theirs)}; ours alone {len(ours - theirs)}, "
              f"datatrove alone {len(theirs - ours)}")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratio as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that can import datatrove")
    parser.add_argument("--domains", type=int, default=5_000_000)
    parser.add_argument("--pages", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)
    programs = {"ours": (sys.executable, OURS), "set": (sys.executable, SET)}
    programs["datatrove"] = (arguments.peer_python, DATATROVE)
    sides: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), arguments.domains, arguments.pages)
        for _ in range(arguments.repeats):
            for name, (python, program) in programs.items():
                if (result := measured(python, program, Path(folder))) is not None:
                    sides.setdefault(name, []).append(result)
    _report(sides, arguments.domains)

    def compared(key: str, peer: str) -> Comparison:
        ours, other = (statistics.median(run[key] for run in sides[side]) for side in ("ours", peer))
        return Comparison(ours, other, arguments.repeats)

    memory = compared("held", "set")
    memory = Comparison(memory.ours / 1e6, memory.peer / 1e6, memory.runs)
    print(ratio_line("memory of the domains, Python set", "MB", memory, higher_is_better=False))
    if "datatrove" not in sides:
        print(f"datatrove: skipped, {arguments.peer_python} lacks it, tldextract, pyahocorasick or fasteners")
        lookups = compared("lookup", "set")
        lookups = Comparison(lookups.ours * 1e6, lookups.peer * 1e6, lookups.runs)
        print(ratio_line("lookup of a host, Python set", "us", lookups, higher_is_better=False))
        return 0
    pages = compared("page", "datatrove")
    pages = Comparison(1 / pages.ours, 1 / pages.peer, pages.runs)
    print(ratio_line("addresses judged by domains and words, one core, datatrove", "addresses/s", pages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
