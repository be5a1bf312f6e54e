import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import Comparison, compare, ratio_line

ROOT = Path(__file__).parents[2]


def test_the_documented_example_runs(tmp_path, monkeypatch):
    code, mixture = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data_loading.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    variables = {}
    exec(code, variables)
    exec(mixture, {})
    assert {name: array.shape for name, array in variables["batch"].items()}["source_ids"] == (1, 8, 512)
    assert sorted(variables["state"]["streams"]) == [str(index) for index in range(8)]


def test_both_sides_run_alternately():
    calls = []

    def side(name, values):
        def run():
            calls.append(name)
            return values.pop(0)

        return run

    assert compare(side("ours", [1, 9, 4]), side("peer", [2, 1, 8]), runs=3) == Comparison(4, 2, 3)
    assert calls == ["ours", "peer"] * 3
    assert ratio_line("work", "s", Comparison(2.0, 3.0, 3), higher_is_better=False) == (
        "ratio: 1.50x (work; ours 2 s; peer 3 s; median of 3)"
    )


@pytest.mark.slow
def test_the_packing_benchmark_ends_with_its_ratio():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data_packing", "--documents", "300", "--sources", "3", "--runs", "1"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    assert re.fullmatch(
        r"ratio: \d+\.\d\dx \(.+; ours [\d,]+ tokens/s; peer [\d,]+ tokens/s; median of 1\)",
        done.stdout.splitlines()[-1],
    )
