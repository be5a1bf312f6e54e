"""One source shard of a Task as a tf.data dataset of exactly the examples that go into the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import seqio
import tensorflow as tf

from beam_pipelines.caching.randomness import random_nodes, same, seed_everything
from beam_pipelines.caching.steps import StepPlan, refuse
from t5x_style.errors import UserError

# A step is run twice on this many examples: enough to see a coin that is thrown for each of them.
PROBE_EXAMPLES = 64
SEEDS = (11, 10007)


def shard_seed(task: str, split: str, index: int) -> int:
    """Seed of the steps before the placeholder, a function of the names alone, so that reruns are identical."""
    digest = hashlib.blake2b(f"{task}/{split}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 2**31


def source_shard(task: seqio.Task, split: str, index: int, count: int) -> tf.data.Dataset:
    """Source shard `index` of `count`, in the source's own order."""
    info = seqio.ShardInfo(index, count) if count > 1 else None
    return task.source.get_dataset(split=split, shuffle=False, shard_info=info)


def run_steps(
    task: seqio.Task, dataset: tf.data.Dataset, steps: Sequence[Callable[..., Any]], seed: int
) -> tf.data.Dataset:
    """Applies steps the way the Task does, with its output features, without a sequence length."""
    with seqio.utils.map_seed_manager(seed):
        return task._preprocess_dataset(dataset, steps)


def cached_dataset(task: seqio.Task, plan: StepPlan, split: str, index: int, count: int) -> tf.data.Dataset:
    """The output features of one shard's examples, in source order.

    Raises:
      UserError: the examples do not have the Task's output features.
    """
    seed = shard_seed(task.name, split, index)
    seed_everything(seed)
    dataset = run_steps(task, source_shard(task, split, index, count), plan.early, seed)
    dataset = run_steps(task, dataset, plan.later, seed)
    try:
        dataset = task._validate_preprocessing(dataset)
    except ValueError as error:
        raise UserError(f"Task {task.name!r}: {error}; correct its preprocessors or output_features") from error
    names = [name for name in task.output_features if name in dataset.element_spec]
    options = tf.data.Options()
    options.deterministic = True
    # Without it tf.data starts each map with one thread, and a shard is over before it has learnt to use more.
    options.autotune.initial_parallelism = os.cpu_count() or 1
    return dataset.map(lambda example: {name: example[name] for name in names}).with_options(options)


def check_deterministic(task: seqio.Task, plan: StepPlan, split: str, count: int) -> None:
    """Refuses random steps among `plan.later`, by their graphs and by running them twice on the first examples.

    Raises:
      UserError: naming the first such step.
    """
    if not plan.later:
        return
    seed = shard_seed(task.name, split, 0)
    seed_everything(seed)
    early = run_steps(task, source_shard(task, split, 0, count), plan.early, seed).take(PROBE_EXAMPLES)
    examples = list(early)  # held fixed, so that a random early step is not taken for a random later one
    fixed = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=early.element_spec)
    for end in range(1, len(plan.later) + 1):
        found = random_nodes(run_steps(task, fixed, plan.later[:end], seed))
        if found:
            raise refuse(task, plan.later[end - 1], f"is random ({found[0]})")
    if _agrees(task, fixed, plan.later):
        return
    for end in range(1, len(plan.later) + 1):
        if not _agrees(task, fixed, plan.later[:end]):
            raise refuse(task, plan.later[end - 1], "is random (two runs over the first examples differ)")
    raise UserError(
        f"Task {task.name!r}: two runs of its steps over the first examples differ; make them deterministic"
    )


def _agrees(task: seqio.Task, dataset: tf.data.Dataset, steps: Sequence[Callable[..., Any]]) -> bool:
    """Whether two runs under different seeds give the same examples."""
    first, second = (_run_under(task, dataset, steps, seed) for seed in SEEDS)
    return same(first, second)


def _run_under(
    task: seqio.Task, dataset: tf.data.Dataset, steps: Sequence[Callable[..., Any]], seed: int
) -> list[dict[str, Any]]:
    seed_everything(seed)
    return list(run_steps(task, dataset, steps, seed).take(PROBE_EXAMPLES).as_numpy_iterator())
