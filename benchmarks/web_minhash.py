"""MinHash signatures per second: ours against datatrove's, from text to the keys of the bands.

    python -m benchmarks.web_minhash --peer_python .venv-peers/bin/python --pages 'pages-*.warc.gz'

Schemes: 450 x 20 (RefinedWeb) and 14 x 8 (FineWeb), 5-grams of words. The peer runs in its own environment
(`make peers`), on the same texts, in the same run, turn by turn, each side in processor time of one core. It is
measured twice: as it comes (spaCy's words) and with its tokeniser replaced by `str.split`. Made texts, the same on
every machine, stand in for pages where none are given. The last line is against the peer's faster way.
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

from benchmarks.harness import Comparison, ratio_line

SCHEMES = ((14, 8), (450, 20))
NGRAM = 5

# What the peer's environment runs. argv: texts, bands, rows, words per shingle, tokeniser; prints seconds.
PEER = r"""
import json, sys, tempfile, time
try:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
except ImportError:
    sys.exit(3)
texts, (bands, rows, ngram) = json.load(open(sys.argv[1])), map(int, sys.argv[2:5])
config = MinhashConfig(n_grams=ngram, num_buckets=bands, hashes_per_bucket=rows)
with tempfile.TemporaryDirectory() as folder:
    stage = MinhashDedupSignature(folder, config, language="en")
if sys.argv[5] == "spaces":
    class Spaces(type(stage.word_tokenizer)):
        def word_tokenize(self, text):
            return text.split()
    stage.word_tokenizer = Spaces("en")
stage.get_signature(stage.get_shingles("load whatever is loaded late, before the clock starts to run"))
start = time.process_time()
for text in texts:
    shingles = stage.get_shingles(text)
    if shingles.size:
        stage.get_signature(shingles)
print(time.process_time() - start)
"""


def made_texts(count: int, words: int) -> list[str]:
    """English-like texts that are the same on every machine: words drawn by a linear congruential generator."""
    vocabulary = [f"{a}{b}{c}" for a in ("con", "re", "un", "pro") for b in "aeiou" for c in ("st", "ng", "rd", "le")]
    state, texts = 1, []
    for _ in range(count):
        picked = []
        for _ in range(words):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            picked.append(vocabulary[(state >> 33) % len(vocabulary)])
        texts.append(" ".join(picked))
    return texts


def our_seconds(texts: Sequence[str], bands: int, rows: int) -> float:
    """Processor time from texts to keys."""
    from beam_pipelines.web.dedup.minhash import MinHashDedup
    from beam_pipelines.web.document import Document

    stage = MinHashDedup(bands=bands, rows=rows, ngram=NGRAM)
    documents = [Document("", text, "", "", "", "en", 1.0, "{}") for text in texts]
    start = time.process_time()
    stage.keys(documents)
    return time.process_time() - start


def peer_seconds(python: str, texts: Sequence[str], bands: int, rows: int, tokeniser: str) -> float:
    """The peer's; exits with a hint if it is not there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.json")
        path.write_text(json.dumps(texts))
        command = [python, "-c", PEER, str(path), str(bands), str(rows), str(NGRAM), tokeniser]
        peer = subprocess.run(command, capture_output=True, text=True, check=False)
    if peer.returncode == 3:
        print(f"skipped: {python} has no datatrove; make its environment with `make peers` and pass --peer_python")
        raise SystemExit(0)
    if peer.returncode:
        sys.exit(f"the peer failed: {peer.stderr[-2000:]}")
    return float(peer.stdout.split()[-1])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each scheme and tokeniser and the ratio last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that can import datatrove and spacy")
    parser.add_argument("--pages", nargs="+", help="globs of WARC files; made texts without them")
    parser.add_argument("--texts", type=int, default=100, help="at most so many, spread over the pages")
    parser.add_argument("--words", type=int, default=600, help="words of a made text")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args(argv)

    if arguments.pages:
        from benchmarks.web_filters import read_texts

        texts = read_texts(arguments.pages, sys.maxsize)
        texts = texts[:: max(1, len(texts) // arguments.texts)][: arguments.texts]
    else:
        texts = made_texts(arguments.texts, arguments.words)
    kind = "pages" if arguments.pages else "made texts"
    words = statistics.mean(len(text.split()) for text in texts)
    line = ""
    for bands, rows in SCHEMES:
        our_seconds(texts, bands, rows)  # words met once are known, as they are in a worker that has run for a second
        seconds: dict[str, list[float]] = {"ours": [], "default": [], "spaces": []}
        for _ in range(arguments.repeats):
            seconds["ours"].append(our_seconds(texts, bands, rows))
            for tokeniser in ("default", "spaces"):
                seconds[tokeniser].append(peer_seconds(arguments.peer_python, texts, bands, rows, tokeniser))
        rate = {side: len(texts) / statistics.median(values) for side, values in seconds.items()}
        for side, label in (("default", "datatrove as it comes"), ("spaces", "datatrove with str.split")):
            what = f"MinHash {bands}x{rows}, {len(texts)} {kind} of {words:.0f} words, one core, against {label}"
            line = ratio_line(what, "documents/s", Comparison(rate["ours"], rate[side], arguments.repeats))
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
