"""Late steps across examples: where the shards of a split, each on its own, would give other examples than the whole.

seqio runs the steps behind the placeholder on the whole split. A step that takes, batches or joins examples gives
something else on every shard: of `take(3)` over three shards would come nine examples. Such a split is one unit and one
shard, made as `task.get_dataset(shuffle=False)` makes it.
"""

from __future__ import annotations

from typing import Any

import seqio
import tensorflow as tf

from beam_pipelines.caching.dataset import first_examples, fixed, run_late, run_steps, shard_seed
from beam_pipelines.caching.randomness import same
from beam_pipelines.caching.steps import StepPlan

# Datasets that make each of their examples from one example, in order. Everything else counts as a step across them.
BY_EXAMPLE = {
    "_MapDataset",
    "_ParallelMapDataset",
    "_FilterDataset",
    "_FlatMapDataset",
    "_UnbatchDataset",
    "_RestructuredDataset",
    "_PrefetchDataset",
    "_OptionsDataset",
}
_LOOKED_AT = 8  # shards searched for two that hold examples


def is_across_examples(task: seqio.Task, plan: StepPlan, split: str, count: int) -> bool:
    """Whether a late step depends on more than one example, by its graph and by comparing two shards with both.

    Args:
      count: shards of the split.
    """
    if count < 2 or not plan.later:
        return False
    probes: list[tf.data.Dataset] = []
    for index in range(min(count, _LOOKED_AT)):
        probe = first_examples(task, plan, split, index, count)
        if not probes or any(True for _ in probe.take(1)):
            probes.append(probe)
        if len(probes) == 1 and _graph_crosses(task, plan, split, probe):
            return True
        if len(probes) == 2:
            return not _same_apart(task, plan, split, probes)
    return False


def _graph_crosses(task: seqio.Task, plan: StepPlan, split: str, start: tf.data.Dataset) -> bool:
    made = run_steps(task, start, plan.later, shard_seed(task.name, split, 0), plan.lengths)
    waiting: list[Any] = [made]
    while waiting:
        node = waiting.pop()
        if node is start:
            continue
        inputs = node._inputs()
        if type(node).__name__ not in BY_EXAMPLE or len(inputs) != 1:
            return True
        waiting.extend(inputs)
    return False


def _same_apart(task: seqio.Task, plan: StepPlan, split: str, probes: list[tf.data.Dataset]) -> bool:
    """Whether late steps give the same of the first examples of two shards, apart and as one."""
    seed, end = shard_seed(task.name, split, 0), len(plan.later)
    both = fixed([example for probe in probes for example in probe], probes[0].element_spec)
    together = run_late(task, plan, both, end, seed)
    apart = [example for probe in probes for example in run_late(task, plan, probe, end, seed)]
    return same(together, apart)
