"""The benchmark runs and says so plainly when its peer is not installed."""

import importlib.util
import re

from benchmarks import web_minhash


def test_last_line(capsys):
    assert web_minhash.main(["--count", "5", "--words", "30", "--repeats", "1"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    if importlib.util.find_spec("datasketch") is None:
        assert last.startswith("skipped: ")
        assert "--peer_python" in last
    else:
        assert re.fullmatch(r"ratio: [\d.]+x \(.*; ours \d+ documents/s; peer \d+ documents/s; median of 1\)", last)


def test_made_texts_are_the_same_everywhere():
    one, two = web_minhash.made_texts(2, 4)
    assert one != two
    assert web_minhash.made_texts(1, 4) == [one]
    assert len(one.split()) == 4
