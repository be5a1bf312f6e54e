"""The benchmark of the shuffle runs, at a size that shows nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psutil")


@pytest.mark.slow
def test_it_ends_with_a_ratio():
    script = Path(__file__).parents[2] / "benchmarks" / "web_shuffle.py"
    command = [sys.executable, str(script), "--scale", "0.02", "--schemes", "14x8", "--runners", "local", "beam"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert re.search(r"^ratio: [0-9.]+x \(peak memory of the 14x8 shuffle of 8,000 documents; ours .*\)$", shown, re.M)
