"""MinHash signatures per second: ours against datasketch, same shingles of words, same number of hash functions.

    python -m benchmarks.web_minhash --peer_python /path/to/environment/bin/python [--documents 'DIR/*.parquet']

The peer runs in its own environment (`python -m venv peer && peer/bin/pip install datasketch`), on the same texts, in
the same run, each side in processor time of one core. Both start from text and end at the signature.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# What the peer's environment runs: argv is texts, hash functions, words per shingle, repeats; prints seconds as JSON.
PEER = r"""
import json, re, sys, time
try:
    from datasketch import MinHash, __version__
except ImportError:
    sys.exit(3)
texts, count, n, repeats = json.load(open(sys.argv[1])), *map(int, sys.argv[2:])
word, seconds = re.compile(r"\w+"), []
for _ in range(repeats):
    start = time.process_time()
    for text in texts:
        words = word.findall(text.lower())
        grams = {" ".join(words[i : i + n]).encode() for i in range(max(len(words) - n + 1, 1))}
        MinHash(num_perm=count, seed=1).update_batch(grams)
    seconds.append(time.process_time() - start)
print(json.dumps(seconds))
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


def read_texts(pattern: str, limit: int) -> list[str]:
    """The first `limit` texts of Parquet documents."""
    import pyarrow.parquet as pq

    from beam_pipelines import storage

    texts: list[str] = []
    for path in storage.expand([pattern]):
        texts += pq.read_table(path, columns=["text"]).column("text").to_pylist()
    return [text for text in texts if re.search(r"\w", text)][:limit]


def seconds_of(function: Callable[[], None], repeats: int) -> list[float]:
    """Processor time of every call."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        seconds.append(time.process_time() - start)
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the ratio as the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer_python", default=sys.executable, help="interpreter that can import datasketch")
    parser.add_argument("--documents", help="Parquet documents; made texts without it")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--words", type=int, default=400, help="words of a made text")
    parser.add_argument("--bands", type=int, default=14)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)

    from beam_pipelines.web.minhash import shingles, signature
    from beam_pipelines.web.words import normalised_words

    if arguments.documents:
        texts = read_texts(arguments.documents, arguments.count)
    else:
        texts = made_texts(arguments.count, arguments.words)
    count, n = arguments.bands * arguments.rows, 5

    def ours() -> None:
        for text in texts:
            signature(shingles(normalised_words(text), n), count, seed=1)

    ours()  # words met once are known, as they are in a worker that has run for a second
    own = statistics.median(seconds_of(ours, arguments.repeats))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "texts.json")
        path.write_text(json.dumps(texts))
        command = [arguments.peer_python, "-c", PEER, str(path), str(count), str(n), str(arguments.repeats)]
        peer = subprocess.run(command, capture_output=True, text=True, check=False)
    if peer.returncode == 3:
        print(
            f"skipped: {arguments.peer_python} has no datasketch; install it in an environment and pass --peer_python"
        )
        return 0
    if peer.returncode:
        sys.exit(f"the peer failed: {peer.stderr}")
    other = statistics.median(json.loads(peer.stdout))
    what = f"MinHash {arguments.bands}x{arguments.rows} signatures of {len(texts)} documents, one core"
    figures = f"ours {len(texts) / own:.0f} documents/s; peer {len(texts) / other:.0f} documents/s"
    print(f"ratio: {other / own:.2f}x ({what}; {figures}; median of {arguments.repeats})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
