"""One source shard of a Task, or its whole split, as a tf.data dataset of exactly the examples that are cached."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from beam_pipelines.caching.failures import mend, told
from beam_pipelines.caching.randomness import random_nodes, same, seed_everything
from beam_pipelines.caching.steps import StepPlan, refuse, step_name
from t5x_style.errors import UserError

# A step is run twice on this many examples: enough to see a coin that is thrown for each of them.
PROBE_EXAMPLES = 64
SEEDS = (11, 10007)


def shard_seed(task: str, split: str, index: int) -> int:
    """Seed of the steps before the placeholder, a function of the names alone, so that reruns are identical."""
    digest = hashlib.blake2b(f"{task}/{split}/{index}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % 2**31


def source_shard(task: seqio.Task, split: str, index: int, count: int) -> tf.data.Dataset:
    """Source shard `index` of `count`, in the source's own order; the whole split where there is but one."""
    info = seqio.ShardInfo(index, count) if count > 1 else None
    with told(f"Task {task.name!r} split {split!r}: its source fails", mend(task.name)):
        return task.source.get_dataset(split=split, shuffle=False, shard_info=info)


def run_steps(
    task: seqio.Task,
    dataset: tf.data.Dataset,
    steps: Sequence[Callable[..., Any]],
    seed: int,
    lengths: Mapping[str, int] | None = None,
) -> tf.data.Dataset:
    """Applies steps the way the Task does, with its output features.

    Args:
      lengths: the sequence length that late steps are given; None: none.

    Raises:
      UserError: a step cannot be built; the message names it.
    """
    with seqio.utils.map_seed_manager(seed):
        for step in steps:
            with told(f"Task {task.name!r}: step {step_name(step)!r} cannot be built", mend(task.name)):
                dataset = task._preprocess_dataset(dataset, [step], lengths)
                if not isinstance(dataset, tf.data.Dataset):
                    raise TypeError(f"it returned a {type(dataset).__name__} instead of a tf.data.Dataset")
    return dataset


def early_dataset(task: seqio.Task, plan: StepPlan, split: str, index: int, count: int) -> tf.data.Dataset:
    """One shard's examples as they are at the placeholder."""
    seed = shard_seed(task.name, split, index)
    seed_everything(seed)
    return run_steps(task, source_shard(task, split, index, count), plan.early, seed)


def cached_dataset(task: seqio.Task, plan: StepPlan, split: str, index: int, count: int) -> tf.data.Dataset:
    """The output features of one shard's examples, in source order.

    Raises:
      UserError: the examples do not have the Task's output features.
    """
    dataset = early_dataset(task, plan, split, index, count)
    dataset = run_steps(task, dataset, plan.later, shard_seed(task.name, split, index), plan.lengths)
    if plan.lengths:
        dataset = task._trim_output_features(dataset, plan.lengths)
    names = [name for name in task.output_features if name in dataset.element_spec]
    _validate(task, plan, dataset, names)
    options = tf.data.Options()
    options.deterministic = True
    # Without it tf.data starts each map with one thread, and a shard is over before it has learnt to use more.
    options.autotune.initial_parallelism = os.cpu_count() or 1
    return dataset.map(lambda example: {name: example[name] for name in names}).with_options(options)


def _validate(task: seqio.Task, plan: StepPlan, dataset: tf.data.Dataset, names: Sequence[str]) -> None:
    """seqio's own check; where late steps are left out, of the features that are there already."""
    if not plan.left_out:
        with told(f"Task {task.name!r}: its examples do not fit", "correct its preprocessors or output_features"):
            task._validate_preprocessing(dataset)
        return
    if not names:
        raise UserError(
            f"Task {task.name!r}: at the placeholder there is none of its features "
            f"{', '.join(task.output_features)}; cache it without --stop_at_placeholder"
        )
    for name in names:
        feature, found = task.output_features[name], dataset.element_spec[name]
        if feature.dtype != found.dtype or feature.rank != found.shape.rank:
            raise UserError(
                f"Task {task.name!r}: at the placeholder feature {name!r} is {found.dtype.name} of rank "
                f"{found.shape.rank}, its output_features say {feature.dtype.name} of rank {feature.rank}; "
                "cache it without --stop_at_placeholder"
            )


def first_examples(task: seqio.Task, plan: StepPlan, split: str, index: int, count: int) -> tf.data.Dataset:
    """The first examples of a shard at the placeholder, held fixed.

    A random early step is then not taken for a random late one.
    """
    early = early_dataset(task, plan, split, index, count).take(PROBE_EXAMPLES)
    where = f"Task {task.name!r} split {split!r} shard {index} of {count}"
    with told(lambda: f"{where}: {failing_step(task, plan, split, index, count)}", mend(task.name)):
        return fixed(list(early), early.element_spec)


def fixed(examples: Sequence[Any], spec: Any) -> tf.data.Dataset:
    """A dataset of given examples."""
    return tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=spec)


def failing_step(task: seqio.Task, plan: StepPlan, split: str, index: int, count: int) -> str:
    """Which step fails on the examples of a shard: "step 'render' fails", found by running ever fewer of them."""
    steps = [*plan.early, *plan.later]

    def fails(end: int) -> bool:
        early, later = steps[: min(end, len(plan.early))], steps[len(plan.early) : end]
        seed = shard_seed(task.name, split, index)
        seed_everything(seed)
        try:
            dataset = run_steps(task, source_shard(task, split, index, count), early, seed)
            for _ in run_steps(task, dataset, later, seed, plan.lengths):
                pass
        except Exception:  # noqa: BLE001 (it was told already; the question is only where)
            return True
        return False

    low, high = -1, len(steps)  # `high` steps fail, `low` do not
    if not steps or not fails(high):
        return "the Task fails"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    return "its source fails" if high == 0 else f"step {step_name(steps[high - 1])!r} fails"


def check_deterministic(task: seqio.Task, plan: StepPlan, split: str, count: int) -> None:
    """Refuses random steps among `plan.later`, by their graphs and by running them twice on the first examples.

    Raises:
      UserError: naming the first such step.
    """
    if not plan.later:
        return
    examples = first_examples(task, plan, split, 0, count)
    seed = shard_seed(task.name, split, 0)
    for end in range(1, len(plan.later) + 1):
        found = random_nodes(run_steps(task, examples, plan.later[:end], seed, plan.lengths))
        if found:
            raise refuse(task, plan.later[end - 1], f"is random ({found[0]})")
    if _agrees(task, plan, examples, len(plan.later)):
        return
    for end in range(1, len(plan.later) + 1):
        if not _agrees(task, plan, examples, end):
            raise refuse(task, plan.later[end - 1], "is random (two runs over the first examples differ)")
    raise UserError(
        f"Task {task.name!r}: two runs of its steps over the first examples differ; make them deterministic"
    )


def _agrees(task: seqio.Task, plan: StepPlan, dataset: tf.data.Dataset, end: int) -> bool:
    """Whether two runs of the first `end` late steps under different seeds give the same examples."""
    first, second = (run_late(task, plan, dataset, end, seed, PROBE_EXAMPLES) for seed in SEEDS)
    return same(first, second)


def run_late(
    task: seqio.Task, plan: StepPlan, dataset: tf.data.Dataset, end: int, seed: int, most: int = -1
) -> list[dict[str, Any]]:
    """The first `most` examples (-1: all) that the first `end` late steps make of a dataset.

    Raises:
      UserError: a step fails; the message names the last of them that was run.
    """
    seed_everything(seed)
    where = f"Task {task.name!r}: step {step_name(plan.later[end - 1])!r} or one before it fails on the first examples"
    with told(where, mend(task.name)):
        made = run_steps(task, dataset, plan.later[:end], seed, plan.lengths)
        return list(made.take(most).as_numpy_iterator())
