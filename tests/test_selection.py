"""What tests/selection.py decides, and that two runs give the tests of the archives the same names."""

import os
import re
import subprocess
import sys

import pytest

from tests import selection


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("tests/a.py::test_b[gzip-3]", False),
        ("tests/a.py::test_b[<function f at 0x7f12a4c0>]", True),
        ("tests/a.py::test_b[\\x1f\\x8b\\x08\\x00\\x8a(gi\\x02]", True),
        ("tests/a.py::test_b[\\x1f\\x8b\\x08\\x00\\x00\\x00\\x00\\x00\\x02]", False),
        ("tests/a.py::test_b[\\x1f\\x8b\\x08]", False),
        ("tests/a.py::test_b[1764240000]", True),
        ("tests/a.py::test_b[0.1764240000]", False),
        ("tests/a.py::test_b[\\xa0\\u3000-words]", False),
        ("tests/0x7f12a4c0.py::test_b", False),
    ],
    ids=["name", "address", "gzip", "timeless", "cut", "time", "fraction", "text", "file"],
)
def test_names_that_change_from_run_to_run_are_found(name, bad):
    assert bool(selection.unstable([name])) == bad


def test_quarters_part_the_functions_and_keep_their_parameters_together():
    names = [f"tests/a.py::test_{number}[{case}]" for number in range(200) for case in "ab"]
    quarters = [selection.quarter(name) for name in names]
    assert quarters[::2] == quarters[1::2]
    assert all(30 <= quarters[::2].count(number) <= 70 for number in range(4))


def test_quarters_part_the_cases_of_parity():
    names = [f"tests/parity/test_families.py::test_logits[{number}]" for number in range(200)]
    quarters = [selection.quarter(name) for name in names]
    assert all(30 <= quarters.count(number) <= 70 for number in range(4))


def test_groups():
    assert selection.group("tests/tasks/test_splits.py::test_a") == "tensorflow"
    assert selection.group("tests/models/test_moe.py::test_a[x::y]") == "tests/models/test_moe.py"


def test_two_collections_give_the_same_names():
    """Damaged gzip files once had their header's time in their names, and two test processes did not agree."""

    def names(seed):
        command = [sys.executable, "-m", "pytest", "--collect-only", "-n0", "tests/beam_pipelines/web/archives"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    first, second = (names(seed).split("\n\n")[0].splitlines() for seed in "12")
    assert len(first) > 100
    assert first == second


def test_tests_of_a_file_share_a_process():
    command = [sys.executable, "-m", "pytest", "-n2", "-vv", "tests/test_errors.py", "tests/training/test_schedules.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ran = re.findall(r"\[(gw\d)\].* PASSED (\S+?)::", done.stdout)
    assert len(ran) > 8
    assert len(set(ran)) == 2, done.stdout  # a process a file


def test_the_longest_come_first():
    names = ["tests/a.py::test", "tests/tasks/test_splits.py::test", "tests/e2e/test_quickstart.py::test"]
    assert sorted(names, key=selection.order) == names[::-1]
