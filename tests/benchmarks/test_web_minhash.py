"""The benchmarks run and say so plainly when the peer is not installed."""

import importlib.util
import re

import pytest

from benchmarks import web_minhash

pytestmark = pytest.mark.slow


@pytest.mark.skipif(importlib.util.find_spec("datatrove") is not None, reason="the peer is installed here")
def test_without_the_peer(capsys):
    with pytest.raises(SystemExit) as ended:
        web_minhash.main(["--texts", "3", "--words", "30", "--repeats", "1"])
    assert ended.value.code == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("skipped: ")
    assert "--peer_python" in last


def test_last_line(capsys, monkeypatch):
    monkeypatch.setattr(web_minhash, "peer_seconds", lambda python, texts, bands, rows, tokeniser: 1.0)
    assert web_minhash.main(["--texts", "3", "--words", "30", "--repeats", "1"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    pattern = r"ratio: [\d.]+x \(MinHash 450x20, .*; ours [\d,.]+ documents/s; peer 3 documents/s; median of 1\)"
    assert re.fullmatch(pattern, last)


def test_made_texts_are_the_same_everywhere():
    one, two = web_minhash.made_texts(2, 4)
    assert one != two
    assert web_minhash.made_texts(1, 4) == [one]
    assert len(one.split()) == 4
