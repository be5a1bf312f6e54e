"""Jobs over units: what is skipped, redone, refused, on Beam's in-process runner and on Dask."""

import json
import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from beam_pipelines.files import storage
from beam_pipelines.jobs import worker_pool
from beam_pipelines.jobs.run_job import Job, ShuffleJob, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import LONGEST_NAME, Unit, distinct_names, file_name, write_result


def write_square(folder: str, unit: Unit) -> None:
    """Notes that it ran, and squares its number."""
    with open(Path(folder) / "calls.txt", "a") as file:
        file.write(f"{unit.name}\n")
    write_result(folder, unit, {"square": unit.arguments["number"] ** 2})


def fail_on_two(folder: str, unit: Unit) -> None:
    if unit.arguments["number"] == 2:
        raise ValueError("two is broken")
    write_square(folder, unit)


def forget(folder: str, unit: Unit) -> None:
    """Writes nothing."""


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(lines)


def squares(folder: Path, count: int, function=write_square, version: str = "1") -> Job:
    folder.mkdir(parents=True, exist_ok=True)
    made = [Unit(f"u{number}", f"{number}.{version}", {"number": number}) for number in range(count)]
    return Job("squares", str(folder), made, {"power": 2}, partial(function, str(folder)))


@pytest.mark.parametrize("workers", [1, 2])
def test_finished_units_are_skipped(tmp_path, workers):
    with Runner(workers=workers) as runner:
        results = run_job(runner, squares(tmp_path, 3))
        assert [results[f"u{n}"]["square"] for n in range(3)] == [0, 1, 4]
        assert calls(tmp_path) == ["u0", "u1", "u2"]
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        assert manifest["configuration"] == {"power": 2}
        assert [unit["name"] for unit in manifest["units"]] == ["u0", "u1", "u2"]
        run_job(runner, squares(tmp_path, 3))
        assert calls(tmp_path) == []
        assert list(run_job(runner, squares(tmp_path, 5))) == ["u0", "u1", "u2", "u3", "u4"]
        assert calls(tmp_path) == ["u3", "u4"]
        changed = squares(tmp_path, 5, version="2")
        run_job(
            runner,
            Job("squares", str(tmp_path), [*changed.units[:1], *squares(tmp_path, 5).units[1:]], {}, changed.function),
        )
        assert calls(tmp_path) == ["u0"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_unit_ends_the_job_and_the_others_stand(tmp_path, workers):
    with Runner(workers=workers) as runner:
        with pytest.raises(Exception, match="two is broken"):
            run_job(runner, squares(tmp_path, 3, fail_on_two))
        assert not (tmp_path / "manifest.json").exists()
        done = set(calls(tmp_path))
        run_job(runner, squares(tmp_path, 3))
        assert done.isdisjoint(calls(tmp_path))
        assert (tmp_path / "manifest.json").exists()


def test_a_runner_that_loses_units_is_found_out(tmp_path):
    with Runner() as runner, pytest.raises(RuntimeError, match=r"without the results of \['u0', 'u1'\]"):
        run_job(runner, squares(tmp_path, 2, forget))


def emit_digits(source: Unit, wanted: frozenset[int]):
    for part in sorted(wanted):
        yield part, (source.arguments["index"], np.array([part, source.arguments["index"]]).tobytes())


def join_blocks(folder: str, unit: Unit, blocks) -> None:
    with open(Path(folder) / "calls.txt", "a") as file:
        file.write(f"{unit.name}\n")
    values = [(index, np.frombuffer(block, np.int64).tolist()) for index, block in blocks]
    write_result(folder, unit, {"values": values})


def shuffle(folder: Path, sources: int, parts: int) -> ShuffleJob:
    folder.mkdir(parents=True, exist_ok=True)
    made = [Unit(f"s{index}", "", {"index": index}) for index in range(sources)]
    targets = [Unit(f"p{index}", "f") for index in range(parts)]
    reduce = partial(join_blocks, str(folder))
    return ShuffleJob("shuffle", str(folder), targets, {}, reduce, sources=made, emit=emit_digits)


def check_shuffle(results: dict, sources: int, parts: int) -> None:
    for part in range(parts):
        assert results[f"p{part}"]["values"] == [[index, [part, index]] for index in range(sources)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shuffle_brings_every_block_in_order_and_redoes_missing_parts_only(tmp_path, workers):
    with Runner(workers=workers) as runner:
        check_shuffle(run_job(runner, shuffle(tmp_path, 11, 4)), 11, 4)
        calls(tmp_path)
        (tmp_path / "unit-p2.json").unlink()
        check_shuffle(run_job(runner, shuffle(tmp_path, 11, 4)), 11, 4)
        assert calls(tmp_path) == ["p2"]


@pytest.mark.slow
def test_dask_gives_the_same_results(tmp_path):
    """A real LocalCluster with two worker processes."""
    with Runner("dask", workers=2) as runner:
        results = run_job(runner, squares(tmp_path / "map", 9))
        assert [results[f"u{n}"]["square"] for n in range(9)] == [n * n for n in range(9)]
        assert len(calls(tmp_path / "map")) == 9
        check_shuffle(run_job(runner, shuffle(tmp_path / "shuffle", 11, 4)), 11, 4)


def sleep_long(folder: str, unit: Unit) -> None:
    (Path(folder) / f"{unit.name}.pid").write_text(str(os.getpid()))
    time.sleep(60)


def test_an_interrupt_ends_the_workers_at_once(tmp_path, monkeypatch):
    """Ctrl-C arrives while units run; the pool is gone when the block is left."""
    start = time.monotonic()

    def interrupted(runner, job, pending):
        import threading

        pool = worker_pool._POOL
        futures = [pool.submit(job.function, unit) for unit in pending]
        while len(list(tmp_path.glob("*.pid"))) < 2:
            time.sleep(0.05)
            assert threading.active_count()
        assert futures
        raise KeyboardInterrupt

    monkeypatch.setattr("beam_pipelines.jobs.run_job._run_pending", interrupted)
    with pytest.raises(KeyboardInterrupt), Runner(workers=2) as runner:
        run_job(runner, squares(tmp_path, 2, sleep_long))
    assert time.monotonic() - start < 30
    for path in tmp_path.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_distinct_names():
    assert distinct_names(["a/x.warc", "b/x.warc", "b/y.warc"]) == ["a/x.warc", "b/x.warc", "y.warc"]
    assert distinct_names(["/data/1/x", "/data/2/x", "s3://bucket/2/x"]) == ["1/x", "data/2/x", "bucket/2/x"]
    assert distinct_names(["x", "a/x"]) == ["x", "a/x"]
    assert distinct_names([]) == []


def test_names_become_file_names():
    assert file_name("a/x y.warc.gz") == "a%2Fx%20y.warc.gz"
    assert file_name("plain-1.warc.gz") == "plain-1.warc.gz"
    assert file_name("n" * LONGEST_NAME) == "n" * LONGEST_NAME


def test_long_names_end_in_a_hash(tmp_path):
    one, other = (file_name("漢" * 60 + end) for end in ("1.warc.gz", "2.warc.gz"))
    assert len(one) == len(other) == LONGEST_NAME
    assert one != other
    assert one.startswith("%E6%BC%A2")
    storage.write_json(str(tmp_path / f"{one}.06-minhash_dedup.parquet"), {})
