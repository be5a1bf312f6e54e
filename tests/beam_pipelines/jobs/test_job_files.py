"""Clusters: what their graphs carry, whatever the number of units; files that workers read, shuffles on disk."""

import os
from functools import partial
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_pipelines.files import storage
from beam_pipelines.files.read_ahead import read_ahead
from beam_pipelines.jobs import file_shuffle, job_files
from beam_pipelines.jobs.run_job import Job, Results, ShuffleJob, run_job
from beam_pipelines.jobs.runners import Runner
from beam_pipelines.jobs.unit import Unit, write_result
from t5x_style.errors import UserError

CLUSTER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"  # by this name it is any other runner to us
LIMIT = 10_000_000  # bytes of a graph that Dataflow takes


class Recorder(Runner):
    """Runs nothing; keeps the size of every graph as it would be submitted."""

    def __init__(self):
        super().__init__(CLUSTER)
        self.sizes = []

    def execute(self, pipeline: beam.Pipeline) -> str:
        self.sizes.append(len(pipeline.to_runner_api().SerializeToString()))
        return "DONE"


def note(folder: str, unit: Unit) -> None:
    write_result(folder, unit, {"number": unit.arguments["number"]})


def units(count: int) -> list[Unit]:
    return [
        Unit(f"CC-MAIN-2024-{n:06d}.warc.gz", f"{n:032x}", {"path": f"s3://x/{n:06d}", "number": n})
        for n in range(count)
    ]


def emit(source: Unit, wanted: frozenset[int]):
    for part in sorted(wanted):
        yield part, (source.arguments["number"], bytes([part]) * part)


def reduce(folder: str, sources: list[str], unit: Unit, blocks) -> None:
    assert len(sources) == len(blocks)
    write_result(folder, unit, {"bytes": sum(len(block) for _, block in blocks)})


def shuffle(folder: str, sources: list[Unit], parts: int) -> ShuffleJob:
    """The reducer names all sources, as the one that joins clusters does."""
    function = partial(reduce, folder, [unit.name for unit in sources])
    targets = [Unit(f"{part:03d}", "f") for part in range(parts)]
    return ShuffleJob("shuffle", folder, targets, {}, function, sources=sources, emit=emit)


def test_a_cluster_runs_units_and_shuffles_from_files(tmp_path, monkeypatch):
    monkeypatch.setattr(job_files, "CHUNK_UNITS", 4)
    with Runner(CLUSTER) as runner:
        results = run_job(
            runner, Job("map", str(tmp_path / "map"), units(11), {}, partial(note, str(tmp_path / "map")))
        )
        assert [result["number"] for result in results.values()] == list(range(11))
        found = run_job(runner, shuffle(str(tmp_path / "shuffle"), units(11), 5))
        assert {name: result["bytes"] for name, result in found.items()} == {
            f"{part:03d}": 11 * part for part in range(5)
        }
    assert not list(tmp_path.glob("*/graph/*"))


def test_graphs_hold_no_units(tmp_path):
    """One path of a file per thousand units, however long their arguments and the functions are."""
    sizes = {}
    for count in (10, 10_000, 90_000):
        recorder = Recorder()
        folder = str(tmp_path / str(count))
        with recorder as runner:
            runner.run_units("map", units(count), partial(note, folder), folder)
            job = shuffle(folder, units(count), 14)
            runner.run_shuffle("shuffle", job.sources, range(14), job.emit, job.function, folder)
        sizes[count] = recorder.sizes
    for small, large, huge in zip(*sizes.values(), strict=True):
        assert small < 40_000
        assert large - small < 10_000
        assert (huge - small) / 90_000 < 1
        assert huge < LIMIT / 100


def test_without_its_client_dataflow_is_refused_in_one_line(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    options = ["--project=project", "--region=us-east4", "--temp_location=gs://bucket/temporary"]
    with pytest.raises(UserError, match=r"^--runner DataflowRunner: install apache-beam\[gcp\][^\n]*$"):
        Runner("DataflowRunner", beam_options=options).__enter__()


def test_an_interrupt_ends_the_remote_job(tmp_path, monkeypatch):
    from apache_beam.runners.portability.fn_api_runner import fn_runner

    ended = []

    class Remote:
        def wait_until_finish(self):
            raise KeyboardInterrupt

        def cancel(self):
            ended.append("cancelled")

    monkeypatch.setattr(fn_runner.FnApiRunner, "run_pipeline", lambda *_: Remote())
    with pytest.raises(KeyboardInterrupt), Runner(CLUSTER) as runner:
        runner.run_units("map", units(2), print, str(tmp_path))
    assert ended == ["cancelled"]


def test_stored_functions_and_units(tmp_path):
    stored = job_files.store_function(lambda a, b: a + b, str(tmp_path))
    assert stored(2, 3) == 5
    assert job_files.store_function(max, str(tmp_path)).path != stored.path
    paths = job_files.store_units(units(2001), str(tmp_path))
    assert len(paths) == 3
    assert [batch for path in paths for batch in job_files.load_batches(path)] == [[unit] for unit in units(2001)]
    assert job_files.store_units([], str(tmp_path)) == []
    (tmp_path / ".x.units.0.tmp").touch()
    (tmp_path / "unit-a.json").touch()
    job_files.clear(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["unit-a.json"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=9)), max_size=6), max_size=4))
def test_the_shuffle_on_disk_brings_every_block(tmp_path_factory, sources):
    """Any order, several blocks of one source for a part, none at all, empty ones."""
    with file_shuffle.folder(str(tmp_path_factory.mktemp("job"))) as folder:
        for index, blocks in enumerate(sources):
            keyed = [(part, (index, block)) for part, block in blocks]
            file_shuffle.WriteBlocks(lambda _, keyed=keyed: keyed, folder)(Unit(f"s{index}", ""))
        found: dict[int, list] = {}
        read = file_shuffle.ReadBlocks(lambda pair: found.update([pair]), folder)
        for part in range(6):
            read(Unit(str(part), "", {"part": part}))
    naive: dict[int, list] = {}
    for index, blocks in enumerate(sources):
        for part, block in blocks:
            naive.setdefault(part, []).append((index, block))
    assert found == naive
    assert not os.path.exists(folder)


def test_the_shuffle_on_disk_starts_empty(tmp_path):
    (tmp_path / "shuffle").mkdir()
    (tmp_path / "shuffle" / "old.index").write_bytes(np.zeros((1, 4), np.int64).tobytes())
    with file_shuffle.folder(str(tmp_path)) as folder:
        assert os.listdir(folder) == []
    with file_shuffle.folder("memory://bucket/job") as folder:
        assert storage.is_local(folder)
        assert Path(folder).is_dir()
    assert not Path(folder).exists()


def test_results_are_read_when_asked_for(tmp_path):
    for folder in (str(tmp_path), "memory://results"):
        for unit in units(70):
            note(folder, unit)
        names = [unit.name for unit in units(70)]
        results = Results(folder, names)
        assert list(results) == names
        assert [result["number"] for result in results.values()] == list(range(70))
        assert [name for name, _ in results.items()] == names
        assert results[names[3]]["number"] == 3
        with pytest.raises(KeyError):
            results["other"]


def test_read_ahead_keeps_the_order_and_raises():
    assert list(read_ahead(lambda x: x * x, range(300), threads=3)) == [x * x for x in range(300)]
    with pytest.raises(ZeroDivisionError):
        list(read_ahead(lambda x: 1 // (x - 5), range(300), threads=3))
