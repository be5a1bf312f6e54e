"""Instruction tasks whose answers come from crawled documentation pages; importing registers them, without I/O.

Five clusters of ten templates each. Four are trained on (`documentation_instruct`); the cluster `kind` is never
trained on and shows what carries over to a new question. docs/tasks.md describes each of them.
"""

from __future__ import annotations

import functools

import seqio

from tasks.documentation.arguments import ARGUMENTS
from tasks.documentation.cluster import Cluster, register
from tasks.documentation.kind import KIND
from tasks.documentation.method import METHOD
from tasks.documentation.package import PACKAGE
from tasks.documentation.summary import SUMMARY

TRAINING_CLUSTERS: tuple[Cluster, ...] = (PACKAGE, SUMMARY, ARGUMENTS, METHOD)
HELD_OUT_CLUSTER: Cluster = KIND
CLUSTERS: tuple[Cluster, ...] = (*TRAINING_CLUSTERS, HELD_OUT_CLUSTER)

MIXTURE = "documentation_instruct"
# Examples-proportional mixing with Flan's limit (Wei et al. 2021: maximum rate 3,000).
MAXIMUM_RATE = 3000
EVALUATION_SPLIT = "test"


def _task_names(cluster: Cluster, suffix: str = "") -> list[str]:
    name = cluster.task + suffix
    return [name, f"{name}_rank"] if cluster.has_options else [name]


# What an evaluation goes through: group -> names of Tasks with a split EVALUATION_SPLIT. Tasks that end in `_rank`
# have metrics over scores, the others over generated text.
EVALUATIONS: dict[str, list[str]] = {
    "seen tasks": [name for cluster in TRAINING_CLUSTERS for name in _task_names(cluster)],
    "held-out templates": [name for cluster in TRAINING_CLUSTERS for name in _task_names(cluster, "_template_heldout")],
    "held-out cluster": [
        *_task_names(HELD_OUT_CLUSTER),
        *_task_names(HELD_OUT_CLUSTER, "_template_heldout"),
    ],
}

for _cluster in CLUSTERS:
    register(_cluster)

seqio.MixtureRegistry.add(
    MIXTURE,
    [cluster.task for cluster in TRAINING_CLUSTERS],
    default_rate=functools.partial(seqio.mixing_rate_num_examples, maximum=MAXIMUM_RATE),
)
