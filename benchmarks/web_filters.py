"""Gopher repetition and quality, C4 and FineWeb filters: documents per second and decisions, ours against datatrove.

    python -m benchmarks.web_filters --peer_python /path/to/environment/bin/python --pages 'pages-*.warc.gz'

The peer runs in its own environment (`pip install datatrove spacy`), on the same texts, in the same run, turn by turn,
each side in processor time of one core, from text to decision. datatrove is measured twice: as it comes (spaCy's words)
and with its tokeniser replaced by `str.split`. "All" runs the four filters on every document, whatever the others say;
ours share the document's words, the peer has no way to.

Then every decision that differs is printed with its cause, found by giving ours one after the other of the peer's
definitions until the decisions agree (see web_filters_causes.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import Comparison, ratio_line

FILTERS = ("GopherRepetition", "GopherQuality", "C4", "FineWeb")

# What the peer's environment runs. argv: texts, result, tokeniser, whether decisions and words are wanted.
PEER = r"""
import json, sys, time
try:
    from datatrove.data import Document
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.filters.c4_filters import C4QualityFilter
    from datatrove.utils import text as text_utils, word_tokenizers
    word_tokenizers.load_word_tokenizer("en").word_tokenize("Load what loads late. Now.")
except ImportError:
    sys.exit(3)
texts, tokeniser, details = json.load(open(sys.argv[1])), sys.argv[3], sys.argv[4] == "details"
if tokeniser == "spaces":
    default = word_tokenizers.load_word_tokenizer("en")
    class Spaces(type(default)):
        def word_tokenize(self, text):
            return text.split()
    spaces = Spaces("en")
    word_tokenizers.load_word_tokenizer = lambda language: spaces
    text_utils.split_into_sentences("Load what loads late. Now.", "en")
filters = {"GopherRepetition": GopherRepetitionFilter(), "GopherQuality": GopherQualityFilter(),
           "C4": C4QualityFilter(), "FineWeb": FineWebQualityFilter()}
seconds, decisions, c4_texts = {}, {}, []
for name, stage in filters.items():
    documents = [Document(text=text, id="") for text in texts]
    start = time.process_time()
    answers = [stage.filter(document) for document in documents]
    seconds[name] = time.process_time() - start
    decisions[name] = ["" if answer is True else answer[1] for answer in answers]
    if name == "C4":
        c4_texts = [document.text for document in documents]
result = {"seconds": seconds}
if details:
    result["decisions"], result["c4_texts"] = decisions, c4_texts
    result["words"] = [text_utils.split_into_words(text, "en") for text in texts]
    result["end_marks"] = sorted(text_utils.TERMINAL_PUNCTUATION)
    result["punctuation"] = sorted(text_utils.PUNCTUATION_SET)
json.dump(result, open(sys.argv[2], "w"))
"""


def read_texts(patterns: Sequence[str], limit: int) -> list[str]:
    """The main texts of the pages of WARC files, as resiliparse finds them; empty ones are left out."""
    from collections import Counter

    from beam_pipelines.files import storage
    from beam_pipelines.web.archives.read_warc import ReadWarc
    from beam_pipelines.web.document import Page
    from beam_pipelines.web.extraction.extract import extract_page

    texts = []
    for path in storage.expand(patterns):
        for page in ReadWarc().pages(path, path, Counter()):
            if isinstance(page, Page):
                texts.append(extract_page(page.content, page.charset, "resiliparse").text)
    return [text for text in texts if text.strip()][:limit]


def our_seconds(texts: Sequence[str]) -> dict[str, float]:
    """Processor time of each filter on documents of its own, and of all on shared ones."""
    from beam_pipelines.web.document import Document
    from beam_pipelines.web.filters.c4 import C4
    from beam_pipelines.web.filters.fineweb import FineWebQuality
    from beam_pipelines.web.filters.gopher_quality import GopherQuality
    from beam_pipelines.web.filters.gopher_repetition import GopherRepetition

    stages = dict(zip(FILTERS, (GopherRepetition(), GopherQuality(), C4(), FineWebQuality())))
    seconds = {}
    for name, chosen in {**{name: [stage] for name, stage in stages.items()}, "All": list(stages.values())}.items():
        documents = [Document("", text, "", "", "", "en", 1.0, "{}") for text in texts]
        start = time.process_time()
        for document in documents:
            for stage in chosen:
                stage.apply(document)
        seconds[name] = time.process_time() - start
    return seconds


def run_peer(python: str, texts: Sequence[str], tokeniser: str, details: bool) -> dict[str, Any]:
    """What PEER found; exits if the peer fails, and with a hint if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        given, result = Path(folder, "texts.json"), Path(folder, "result.json")
        given.write_text(json.dumps(texts))
        command = [python, "-c", PEER, str(given), str(result), tokeniser, "details" if details else ""]
        peer = subprocess.run(command, capture_output=True, text=True, check=False)
        if peer.returncode == 3:
            print(f"skipped: {python} has no datatrove and spacy; install them in an environment, pass --peer_python")
            raise SystemExit(0)
        if peer.returncode:
            sys.exit(f"the peer failed: {peer.stderr[-2000:]}")
        found = json.loads(result.read_text())
    found["seconds"]["All"] = sum(found["seconds"].values())
    return found


def print_rates(count: int, ours: list[dict[str, float]], peers: dict[str, list[dict[str, float]]]) -> Comparison:
    """Prints a table of documents per second; returns all filters against the peer as it comes."""

    def rate(runs: list[dict[str, float]], name: str) -> float:
        return count / statistics.median(run[name] for run in runs)

    print(f"documents/s of one core, median of {len(ours)}; texts: {count}")
    print(f"{'':18}{'ours':>8}{'datatrove':>11}{'ratio':>8}{'with spaces':>13}{'ratio':>8}")
    for name in (*FILTERS, "All"):
        own, default, spaces = rate(ours, name), rate(peers["default"], name), rate(peers["spaces"], name)
        print(f"{name:18}{own:8.0f}{default:11.1f}{own / default:7.1f}x{spaces:13.1f}{own / spaces:7.1f}x")
    return Comparison(rate(ours, "All"), rate(peers["default"], "All"), len(ours))


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratio as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that can import datatrove and spacy")
    parser.add_argument("--pages", nargs="+", required=True, help="globs of WARC files of English pages")
    parser.add_argument("--texts", type=int, default=1000, help="at most so many pages")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--speed_only", action="store_true", help="no table of decisions")
    arguments = parser.parse_args(argv)

    texts = read_texts(arguments.pages, arguments.texts)
    details = run_peer(arguments.peer_python, texts, "default", details=True)  # also warms the disk's cache
    our_seconds(texts[:20])
    ours, peers = [], {"default": [], "spaces": []}  # type: tuple[list[dict[str, float]], dict[str, list[Any]]]
    for _ in range(arguments.repeats):
        ours.append(our_seconds(texts))
        for tokeniser, runs in peers.items():
            runs.append(run_peer(arguments.peer_python, texts, tokeniser, details=False)["seconds"])
    comparison = print_rates(len(texts), ours, peers)
    if not arguments.speed_only:
        from benchmarks.web_filters_causes import print_differences

        print_differences(texts, details)
    what = f"Gopher repetition and quality, C4, FineWeb filters on {len(texts)} pages, one core"
    print(ratio_line(what, "documents/s", comparison))
    return 0


if __name__ == "__main__":
    sys.exit(main())
