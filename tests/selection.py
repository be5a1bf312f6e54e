"""Which tests run, in which process, and what their names may be."""

import re
import zlib

# These import TensorFlow and seqio when they run (tests/lazy.py), 7 seconds a process: all of them run in one.
TENSORFLOW = (
    "tests/evaluation/",
    "tests/tasks/",
    "tests/beam_pipelines/test_cache_tasks.py",
    "tests/beam_pipelines/caching/",
)
# An address, a time in seconds, bytes that gzip wrote: flags, then four of the time.
_BYTE = r"(?:\\x[0-9a-f]{2}|[^\\\]])"
_UNSTABLE = re.compile(
    r" at 0x[0-9a-f]{6,}|(?<![0-9.])1[6-9][0-9]{8}(?![0-9])|"
    rf"\\x1f\\x8b\\x08{_BYTE}(?!(?:\\x00){{4}}){_BYTE}{{4}}"
)


def group(name: str) -> str:
    """Tests of one group run in one process: those of a file, and all that load TensorFlow."""
    return "tensorflow" if name.startswith(TENSORFLOW) else name.partition("::")[0]


# Groups that take over a minute: one that began last would leave the other process without work.
LONGEST = ("tests/e2e/", "tests/training/test_loop.py", "tensorflow")


def order(name: str) -> int:
    """Where a test's group comes: the longest first, all others as they were collected."""
    its_group = group(name)
    return next((place for place, start in enumerate(LONGEST) if its_group.startswith(start)), len(LONGEST))


def quarter(name: str) -> int:
    """0 to 3 by file and function, so that the parameters of a function stay together.

    Parity's functions have up to 60 parameters, each a model of its own: there every case counts for itself.
    """
    key = name if name.startswith("tests/parity/") else name.partition("[")[0]
    return zlib.crc32(key.encode()) % 4


def unstable(names: list[str]) -> list[str]:
    """Those whose parameters hold what another run may write otherwise.

    Example: ["test_a.py::test_b[gzip]", "test_a.py::test_b[<object at 0x7f12a4c0>]"] -> the second.
    """
    return [name for name in names if _UNSTABLE.search(name.partition("[")[2])]
