"""The driver of cache_tasks: plans (Task, split, shard) units, runs them as one Beam job, writes manifests last."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import seqio
import tensorflow as tf
from absl import logging

from beam_pipelines.caching.code_version import code_version
from beam_pipelines.caching.dataset import cached_dataset, check_deterministic
from beam_pipelines.caching.failures import StepFailedError, among_others, mend, or_skip, told
from beam_pipelines.caching.features import Described, describe_features, has_arrays
from beam_pipelines.caching.kept_vocabularies import keep
from beam_pipelines.caching.manifests import build_manifest
from beam_pipelines.caching.options import DEFAULTS, Options
from beam_pipelines.caching.rates import cached_stats, check_rates, resolve_mixture
from beam_pipelines.caching.registry import get_provider, import_modules, own_modules, tasks_of
from beam_pipelines.caching.steps import LengthNeededError, StepPlan, plan_steps
from beam_pipelines.caching.units import JOB_FOLDER, CacheShard, error_path, unit_name
from beam_pipelines.caching.whole_split import is_across_examples
from beam_pipelines.files import storage
from beam_pipelines.jobs.run_job import Job, run_job
from beam_pipelines.jobs.runners import LOCAL, Runner
from beam_pipelines.jobs.unit import Unit
from t5x_style.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    write_manifest,
    write_mixture,
)
from t5x_style.errors import UserError
from t5x_style.files import fingerprint, read_json, require_writable

# Starting a worker process costs 7 seconds of TensorFlow, in which one process tokenises about this much.
BYTES_WORTH_A_WORKER = 64 * 2**20
PROBE_LENGTH = 64  # what steps are given that ask for a length, only to see whether they are random


@dataclasses.dataclass(frozen=True)
class SplitPlan:
    """One split of one Task: its units and what its manifest will say."""

    task: str
    split: str
    code: str
    steps: StepPlan
    described: Described
    units: tuple[Unit, ...]
    input_bytes: int


@dataclasses.dataclass(frozen=True)
class CachePlan:
    """Everything one command caches."""

    output: str
    modules: tuple[str, ...]
    data_dir: str | None
    splits: tuple[SplitPlan, ...]
    mixtures: tuple[seqio.Mixture, ...]
    options: Options = DEFAULTS
    skip: tuple[str, ...] = ()

    @property
    def units(self) -> list[Unit]:
        """All units, in order."""
        return [unit for split in self.splits for unit in split.units]


def make_plan(
    names: Sequence[str],
    modules: tuple[str, ...] = (),
    output: str = "",
    splits: tuple[str, ...] = (),
    data_dir: str | None = None,
    options: Options = DEFAULTS,
    skip: tuple[str, ...] = (),
) -> CachePlan:
    """Finds the Tasks, checks them, and plans their units; writes nothing but the output folder.

    Args:
      names: Tasks and Mixtures.
      modules: that register them; empty: the project's own.
      output: cache folder.
      splits: wanted; empty: all of each Task. A Task is cached in those it has.
      data_dir: value for T5X_STYLE_DATA_DIR, or None.
      options: how late steps are treated.
      skip: Tasks to leave out, named or of a Mixture.

    Raises:
      UserError: an unknown name, a Task that cannot be cached, no such split, another cache in the folder.
    """
    require_writable(output, "--output")
    modules = modules or tuple(own_modules())
    import_modules(modules, data_dir)
    providers = [get_provider(name) for name in dict.fromkeys(names)]
    plans: list[SplitPlan] = []
    tasks = tasks_of(providers, skip)
    for task in tasks:
        cannot = f"Task {task.name!r}: it cannot be planned"
        with among_others(task.name, len(tasks)), told(cannot, mend(task.name)):
            plans += _plan_task(task, splits, output, options)
    if options.sequence_length and not any(plan.steps.lengths for plan in plans):
        logging.warning("--sequence_length: no Task has a step behind its placeholder that asks for it")
    mixtures = tuple(each for each in providers if isinstance(each, seqio.Mixture))
    if mixtures:
        stats = _stats_to_come(plans, output, mixtures)
        for mixture in mixtures:
            check_rates(mixture, stats, skip)
    return CachePlan(output, modules, data_dir, tuple(plans), mixtures, options, skip)


def _stats_to_come(
    plans: Sequence[SplitPlan], output: str, mixtures: Sequence[seqio.Mixture]
) -> dict[str, dict[str, dict[str, int]]]:
    """Made-up counts for every split that is planned, real ones for those that are cached already."""
    names = {task.name for mixture in mixtures for task in mixture.tasks}
    stats = {name: cached_stats(output, name) for name in sorted(names)}
    for plan in plans:
        made_up = {"examples": 1000, **{f"{name}_tokens": 1000 for name in plan.described.features}}
        stats.setdefault(plan.task, {})[plan.split] = made_up
    return stats


def _plan_task(task: seqio.Task, wanted: tuple[str, ...], output: str, options: Options) -> list[SplitPlan]:
    present = list(task.splits)
    splits = [split for split in (wanted or present) if split in present]
    if not splits:
        raise UserError(f"Task {task.name!r} has none of the splits {', '.join(wanted)}; it has {', '.join(present)}")
    if len(splits) < len(wanted):
        logging.info("%s: no split %s", task.name, ", ".join(sorted(set(wanted) - set(splits))))
    steps = _steps_of(task, options, splits[0])
    if steps.left_out:
        logging.info("%s: not run, since it stands behind the placeholder: %s", task.name, ", ".join(steps.left_out))
    described: Described | None = None
    plans = []
    for split in splits:
        shards = list(task.source.list_shards(split))
        if not shards:
            raise UserError(f"Task {task.name!r} split {split!r}: its source lists no shard; check its files")
        if described is None:
            check_deterministic(task, steps, split, len(shards))
            specs = cached_dataset(task, steps, split, 0, len(shards)).element_spec if has_arrays(task) else None
            described = describe_features(task, specs)
        whole = is_across_examples(task, steps, split, len(shards))
        if whole:
            logging.info("%s %s: a step goes across examples: one shard of the whole split", task.name, split)
        as_json = {name: dataclasses.asdict(feature) for name, feature in described.features.items()}
        code = code_version(task, steps, as_json, whole)
        _check_same_code(output, task.name, split, code)
        inputs = [_shard_identity(task, split, shard) for shard in shards]
        units = _units_of(task, split, code, shards, inputs, whole)
        size = sum(int(identity[1] or 0) for identity in inputs)
        plans.append(SplitPlan(task.name, split, code, steps, described, units, size))
    return plans


def _steps_of(task: seqio.Task, options: Options, split: str) -> StepPlan:
    """The plan of a Task's steps; one that asks for a length is not told to be given one if it is random as well."""
    try:
        return plan_steps(task, options)
    except LengthNeededError:
        lengths = tuple((name, PROBE_LENGTH) for name in task.output_features)
        with contextlib.suppress(LengthNeededError, StepFailedError):
            probe = plan_steps(task, dataclasses.replace(options, sequence_length=lengths))
            check_deterministic(task, probe, split, len(task.source.list_shards(split)))
        raise


def _units_of(
    task: seqio.Task, split: str, code: str, shards: Sequence[str], inputs: Sequence[Any], whole: bool
) -> tuple[Unit, ...]:
    """A unit for each source shard; for the whole split one."""
    count = 1 if whole else len(shards)
    units = []
    for index in range(count):
        depends_on = list(inputs) if whole else inputs[index]
        shard = f"all {len(shards)} of them" if whole else str(shards[index])
        own = {"task": task.name, "split": split, "index": index, "count": count, "shards": len(shards), "shard": shard}
        identity = fingerprint([task.name, split, index, count, code, depends_on])
        units.append(Unit(unit_name(task.name, split, index, count), identity, own))
    return tuple(units)


def _shard_identity(task: seqio.Task, split: str, shard: str) -> tuple[str, int | None, int | None]:
    """(name, bytes, modification time in ns) of a file; a shard that is no file has a name and its examples."""
    if tf.io.gfile.exists(shard) and not tf.io.gfile.isdir(shard):
        status = tf.io.gfile.stat(shard)
        return Path(shard).name, int(status.length), int(status.mtime_nsec)
    return str(shard), None, task.source.num_input_examples(split)


def _check_same_code(output: str, task: str, split: str, code: str) -> None:
    path = Path(output) / task / split / MANIFEST_FILE
    if path.exists() and read_json(path).get("code") != code:
        raise UserError(
            f"{path.parent} holds a cache of {task!r} made by other code, features, vocabulary or options; "
            f"delete it or pass another --output"
        )


def choose_workers(plan: CachePlan, workers: int, runner: str) -> int:
    """At most one local process per 64 MB of input: each costs seconds to start."""
    if runner != LOCAL:
        return workers
    worthwhile = 1 + sum(split.input_bytes for split in plan.splits) // BYTES_WORTH_A_WORKER
    chosen = max(1, min(workers, worthwhile, len(plan.units)))
    if chosen < workers:
        logging.info("%d of %d workers: more would start slower than one process works", chosen, workers)
    return chosen


def cache(plan: CachePlan, runner: Runner) -> list[Manifest]:
    """Runs the unfinished units and writes the manifests, then the mixtures.

    Returns:
      The manifests in the order of the plan.

    Raises:
      UserError: a unit failed on its data, or a Task has no example in any of its splits.
    """
    job_folder = storage.join(plan.output, JOB_FOLDER)
    units = plan.units
    for unit in units:
        storage.delete(error_path(plan.output, unit.name))
    _drop_stale_manifests(plan, job_folder)
    count = len({split.task for split in plan.splits})
    function = CacheShard(plan.output, plan.modules, plan.data_dir, plan.options)
    job = Job("cache tasks", job_folder, units, {"tasks": sorted({s.task for s in plan.splits})}, function)
    try:
        results = run_job(runner, job)
    except Exception as error:
        for unit in units:
            if storage.exists(error_path(plan.output, unit.name)):
                message = storage.read_json(error_path(plan.output, unit.name))["message"]
                raise UserError(or_skip(message, unit.arguments["task"], count)) from error
        raise
    manifests = [
        build_manifest(
            split.task,
            split.split,
            split.code,
            split.described.features,
            split.described.infos,
            split.steps.append_eos,
            split.steps.trim,
            [results[unit.name] for unit in split.units],
        )
        for split in plan.splits
    ]
    _check_not_empty(manifests)
    for split, manifest in zip(plan.splits, manifests):
        keep(plan.output, {name: split.described.vocabularies[name] for name in manifest.vocabularies})
    for manifest in manifests:
        folder = Path(plan.output) / manifest.task / manifest.split
        _remove_stale_shards(folder, manifest)
        write_manifest(folder, manifest)
    for mixture in plan.mixtures:
        stats = {task.name: cached_stats(plan.output, task.name) for task in mixture.tasks}
        resolved = resolve_mixture(mixture, stats, plan.skip)
        write_mixture(Path(plan.output) / resolved.mixture, resolved)
    return manifests


def _drop_stale_manifests(plan: CachePlan, job_folder: str) -> None:
    """Deletes the manifest of a split some unit of which has to be done again, before anything of it is overwritten."""
    for split in plan.splits:
        for unit in split.units:
            path = storage.join(job_folder, f"unit-{unit.name}.json")
            if not storage.exists(path) or storage.read_json(path).get("fingerprint") != unit.fingerprint:
                (Path(plan.output) / split.task / split.split / MANIFEST_FILE).unlink(missing_ok=True)
                break


def _check_not_empty(manifests: Sequence[Manifest]) -> None:
    for task in dict.fromkeys(manifest.task for manifest in manifests):
        splits = [manifest for manifest in manifests if manifest.task == task]
        if not any(manifest.examples for manifest in splits):
            names = ", ".join(manifest.split for manifest in splits)
            message = f"Task {task!r} gives no example in {names}; check its source and its filters"
            raise UserError(or_skip(message, task, len({manifest.task for manifest in manifests})))
        for manifest in splits:
            if not manifest.examples:
                logging.warning("%s: split %s has no example", task, manifest.split)


def _remove_stale_shards(folder: Path, manifest: Manifest) -> None:
    """Deletes shards of an earlier number of source files and what killed runs left."""
    current = {shard.file for shard in manifest.shards}
    for path in folder.iterdir():
        if path.name not in current and path.name.endswith((".array_record", ".tmp")):
            path.unlink()
