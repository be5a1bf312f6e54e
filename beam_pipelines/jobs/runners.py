"""Which Beam runner carries the jobs: in this process, in N processes, Dask, or any other by its Beam options.

Every job is one small linear graph (see `portable`). Locally it runs on Beam's in-process runner, never on Prism,
which downloads a binary. `--workers N` adds one pool of N processes that lives as long as the command: the graph then
carries all units as one element and its function hands them to the pool. Beam's own multi-processing mode starts new
workers for every job, which took 4 seconds a job where this takes 0.4.
"""

from __future__ import annotations

import argparse
import contextlib
import logging as standard_logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from absl import logging

from beam_pipelines.files import storage
from beam_pipelines.jobs import file_shuffle, job_files, worker_pool
from beam_pipelines.jobs.stage_error import StageError
from beam_pipelines.jobs.unit import Unit
from t5x_style.errors import UserError

LOCAL, DASK = "local", "dask"
_LOCAL_NAMES = {"local", "directrunner", "fnapirunner", "bundlebaseddirectrunner"}
_RUNNER_CLASSES = {LOCAL: "FnApiRunner", DASK: "apache_beam.runners.dask.dask_runner.DaskRunner"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--runner` and `--workers`; unknown arguments are kept for Beam (see `split_arguments`)."""
    parser.add_argument(
        "--runner", default=LOCAL, help="local (default), dask, or a Beam runner's name such as DataflowRunner"
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="worker processes of the local and dask runners"
    )


def split_arguments(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into what `parser` and gin know and the options left for Beam.

    Raises:
      UserError: an option that neither knows.
    """
    _, unknown = parser.parse_known_args(list(argv))
    ours_gin = [index for index, argument in enumerate(unknown) if argument.startswith("--gin.")]
    gin_values = [index + 1 for index in ours_gin if "=" not in unknown[index]]
    beam_options = [argument for index, argument in enumerate(unknown) if index not in {*ours_gin, *gin_values}]
    if beam_options:
        _check_beam_options(parser.prog, beam_options)
    left = list(beam_options)
    own = []
    for argument in argv:
        if left and argument == left[0]:
            left.pop(0)
        else:
            own.append(argument)
    return own, beam_options


def _check_beam_options(program: str, options: Sequence[str]) -> None:
    """Beam only warns about options it does not know; here they are errors."""
    import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options_class in {str(found): found for found in PipelineOptions.__subclasses__()}.values():
        options_class._add_argparse_args(known)
    try:
        _, unknown = known.parse_known_args(list(options))
    except SystemExit as error:
        raise UserError(f"Beam cannot read the options {' '.join(options)}") from error
    if unknown:
        raise UserError(f"unknown argument {unknown[0]!r}; `{program} --help` lists ours, Beam's documentation its own")


def import_beam() -> Any:
    """Imports Beam without the warnings about extras that are not installed."""
    previous = standard_logging.root.manager.disable
    standard_logging.disable(standard_logging.WARNING)
    try:
        import apache_beam
    finally:
        standard_logging.disable(previous)
    return apache_beam


class Runner:
    """Runs jobs; a context manager that holds worker processes or a cluster while it is open."""

    def __init__(self, name: str = LOCAL, workers: int = 1, beam_options: Sequence[str] = ()):
        """Chooses the runner.

        Args:
          name: `local`, `dask` or the name of a Beam runner.
          workers: processes of the local pool or of Dask's local cluster.
          beam_options: passed on as they are.

        Raises:
          UserError: Prism, or fewer than one worker.
        """
        if "prism" in name.lower():
            raise UserError(f"--runner {name}: Prism downloads a binary at run time; use local, dask or a cluster")
        if workers < 1:
            raise UserError(f"--workers {workers}: at least 1 is needed")
        lowered = name.lower()
        self.kind = LOCAL if lowered in _LOCAL_NAMES else DASK if lowered in ("dask", "daskrunner") else name
        if workers > 1 and not self._in_processes:
            raise UserError(f"--workers {workers} is for the local and dask runners; {name} has its own Beam options")
        self._workers, self._options = workers, list(beam_options)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Runner:
        if self.kind.lower() == "dataflowrunner":
            _require_dataflow()
        beam_address = any(option.startswith("--dask_client_address") for option in self._options)
        if self.kind == LOCAL and self._workers > 1:
            self._stack.enter_context(worker_pool.open_pool(self._workers))
        elif self.kind == DASK and not beam_address:
            address = self._stack.enter_context(_dask_cluster(self._workers))
            self._options.append(f"--dask_client_address={address}")
        if self.kind == DASK and not any(option.startswith("--dask_partition_size") for option in self._options):
            self._options.append("--dask_partition_size=1")  # one unit a partition: they are big and uneven
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, value, traceback)

    @property
    def _in_processes(self) -> bool:
        """Whether graphs are run by processes that this command started, so that their size does not matter."""
        return self.kind in (LOCAL, DASK)

    def batches(self, units: Sequence[Unit]) -> list[list[Unit]]:
        """The graph's elements: one unit each, or all units together where the local pool takes them apart."""
        return [list(units)] if self.kind == LOCAL and worker_pool.is_open() else [[unit] for unit in units]

    def run_units(self, label: str, units: Sequence[Unit], function: Callable[[Unit], None], folder: str) -> None:
        """One map job: `function` is called once for every unit, in any order, on any worker.

        Args:
          label: for people.
          units: all of them are run.
          function: what runs; picklable.
          folder: the job's, visible to all workers; what a cluster reads goes to `graph/` in it.
        """
        import_beam()
        from beam_pipelines.jobs import portable

        if self._in_processes:
            with self._pipeline(label) as pipeline:
                portable.map_units(pipeline, self.batches(units), function)
        else:
            with _graph_files(folder) as files, self._pipeline(label) as pipeline:
                stored = job_files.store_function(function, files)
                portable.map_units(pipeline, job_files.store_units(units, files), stored)

    def run_shuffle(
        self,
        label: str,
        sources: Sequence[Unit],
        parts: Sequence[int],
        emit: Callable[[Unit], Iterable[tuple[int, tuple[int, bytes]]]],
        reduce: Callable[[tuple[int, Iterable[tuple[int, bytes]]]], None],
        folder: str,
    ) -> None:
        """One shuffle: keyed blocks from all sources, grouped by key, `reduce` called once for every key.

        Args:
          label: for people.
          sources: units that `emit` is called with, names distinct.
          parts: the keys that `emit` gives.
          emit, reduce: what runs; picklable.
          folder: as in `run_units`.
        """
        import_beam()
        from beam_pipelines.jobs import portable

        if self.kind == LOCAL:
            with file_shuffle.folder(folder) as blocks:
                self.run_units(f"{label}, emit", sources, file_shuffle.WriteBlocks(emit, blocks), folder)
                units = [Unit(str(part), "", {"part": part}) for part in parts]
                self.run_units(f"{label}, reduce", units, file_shuffle.ReadBlocks(reduce, blocks), folder)
        elif self.kind == DASK:
            with self._pipeline(label) as pipeline:
                portable.shuffle_blocks(pipeline, self.batches(sources), emit, reduce)
        else:
            with _graph_files(folder) as files, self._pipeline(label) as pipeline:
                stored = [job_files.store_function(function, files) for function in (emit, reduce)]
                portable.shuffle_blocks(pipeline, job_files.store_units(sources, files), *stored)

    @contextlib.contextmanager
    def _pipeline(self, label: str) -> Iterator[Any]:
        """A pipeline that is checked and run to its end when the block ends."""
        beam = import_beam()
        from apache_beam.options.pipeline_options import PipelineOptions

        from beam_pipelines.jobs import portable

        options = self._options
        if not self._in_processes and not any(option.startswith("--job_name") for option in options):
            options = [*options, f"--job_name=clean-{''.join(c if c.isalnum() else '-' for c in label.lower())}"]
        runner = _RUNNER_CLASSES.get(self.kind, self.kind)
        try:
            pipeline = beam.Pipeline(runner=runner, options=PipelineOptions(options))
        except (ValueError, ImportError) as error:
            raise UserError(f"--runner {self.kind}: {' '.join(str(error).split())}") from error
        yield pipeline
        portable.check(pipeline)
        if self.kind == LOCAL:  # it raises what it logs
            standard_logging.getLogger("apache_beam.runners.common").setLevel(standard_logging.CRITICAL)
        try:
            state = self.execute(pipeline)
        except Exception as error:
            _raise_original(error)
            raise
        if state != "DONE":
            raise RuntimeError(f"job {label} ended in state {state}")

    def execute(self, pipeline: Any) -> str:
        """Runs a pipeline to its end and returns Beam's name of the end state, "DONE" if all went well."""
        result = pipeline.run()
        try:
            return result.wait_until_finish()
        except KeyboardInterrupt:
            if not self._in_processes:
                logging.info("ending the remote job")
                result.cancel()
            raise
        finally:
            if self.kind == DASK:
                result.client.close()


@contextlib.contextmanager
def _graph_files(folder: str) -> Iterator[str]:
    """A folder for what the graph's workers read, emptied before and after."""
    path = storage.join(folder, "graph")
    job_files.clear(path)
    yield path
    job_files.clear(path)


def _require_dataflow() -> None:
    """Says before anything is done that Dataflow's client is missing; Beam says so after the graph is made."""
    import_beam()
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401
    except ImportError as error:
        raise UserError("--runner DataflowRunner: install apache-beam[gcp], the same version on the workers") from error


def _raise_original(error: BaseException) -> None:
    """Raises the Ctrl-C, UserError or StageError that Beam wrapped into `error`, if any, without Beam's frames."""
    seen: BaseException | None = error
    original: BaseException | None = None
    while seen is not None:
        if isinstance(seen, (KeyboardInterrupt, UserError, StageError)):
            original = seen  # the innermost is without Beam's additions
        seen = seen.__cause__ or seen.__context__
    if original is not None:
        raise original.with_traceback(None)


@contextlib.contextmanager
def _dask_cluster(workers: int) -> Iterator[str]:
    """Dask's local cluster of one-thread worker processes; yields its scheduler's address."""
    import_beam()
    try:
        from dask.distributed import LocalCluster
    except ImportError as error:
        raise UserError("--runner dask: install apache-beam[dask]") from error
    standard_logging.getLogger("distributed").setLevel(standard_logging.WARNING)
    path = os.pathsep.join(sys.path)  # workers import our modules from where the driver did
    with (
        _environment("PYTHONPATH", path),
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield cluster.scheduler_address


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
