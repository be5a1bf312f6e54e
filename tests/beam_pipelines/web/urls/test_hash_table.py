"""The table against a set; its memory and speed at five million entries."""

import json
import subprocess
import sys
from array import array

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from beam_pipelines.web.urls.hash_table import HashTable


def table(names):
    return HashTable.from_hashes(array("Q", [xxh3_64_intdigest(name.encode()) for name in names]))


NAMES = st.text(alphabet="ab.", max_size=6)


@given(st.lists(NAMES, max_size=60), st.lists(NAMES, max_size=30))
@settings(max_examples=300, deadline=None)
def test_like_a_set(added, asked):
    built = table(added)
    assert len(built) == len(set(added))
    for name in added + asked:
        assert built.contains(name) == (name in set(added))


def parents(host, single_label):
    labels = host.split(".")
    names = [".".join(labels[start:]) for start in range(len(labels))]
    return [name for name in names if name == host or (name and (single_label or "." in name))]


@given(st.lists(NAMES, max_size=20), NAMES, st.booleans())
@settings(max_examples=300, deadline=None)
def test_parents_like_a_set(added, host, single_label):
    wanted = any(name in set(added) for name in parents(host, single_label))
    assert table(added).contains_parent(host, single_label) == wanted


@pytest.mark.parametrize("count", [0, 1, 2, 3, 1000])
def test_hashes_that_crowd_at_either_end(count):
    top = (1 << 64) - 1
    for hashes in (range(count), range(top - count, top), [*range(count), *range(top - count, top)], [0] * count):
        built = HashTable.from_hashes(array("Q", hashes))
        assert sorted(built.slots[built.slots != np.uint64(top)].tolist()) == sorted(set(hashes))
        assert built.slots[-1] == np.uint64(top)
        slots = built.slots.tolist()
        for value in hashes:
            start = value >> (64 - built.bits)
            assert value in slots[start : slots.index(top, start)]


def test_the_hash_that_marks_empty_slots_is_kept_as_its_neighbour():
    top = (1 << 64) - 1
    assert HashTable.from_hashes(array("Q", [top, top, 5])).slots.tolist().count(top - 1) == 1


MEASURE = """
import json, re, resource, sys, time
from array import array
from pathlib import Path
from beam_pipelines.web.urls import blocklist

def now():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def highest():  # ru_maxrss is also the parent's, from before the exec
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

blocklist.load("", (), (sys.argv[2],))  # imports and first use are no entries
before = now()
listed = blocklist.load("", (), (sys.argv[1],))
held, peak = now() - before, highest() - before
hosts = [f"site{i}.example{i % 977}.com" for i in range(0, 10_000_000, 499)]
hosts += [f"www{i}.other{i % 977}.org" for i in range(40_000)] + [f"news{i}.co" for i in range(40_000)]
seconds = []
for _ in range(5):
    start = time.process_time()
    found = sum(map(listed.blocks_host, hosts))
    seconds.append((time.process_time() - start) / len(hosts))
print(json.dumps({"entries": len(listed.domains), "held": held, "peak": peak, "found": found, "seconds": min(seconds)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_five_million_domains_in_200_megabytes_and_two_microseconds(tmp_path):
    count = 5_000_000
    with open(tmp_path / "domains", "w") as file:
        for start in range(0, count, 100_000):
            file.write("".join(f"site{i}.example{i % 977}.com\n" for i in range(start, start + 100_000)))
    (tmp_path / "few").write_text("a.example\n")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "domains"), str(tmp_path / "few")]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert result["entries"] == count
    assert result["found"] == len([i for i in range(0, 10_000_000, 499) if i < count])
    assert result["held"] < 100e6
    assert result["peak"] < 200e6
    assert result["seconds"] < 2e-6
