"""A task cluster: one question about the crawl in ten wordings, and its seqio Tasks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from tasks import metrics
from tasks.parquet import ParquetDataSource, string, strings
from tasks.splits import SPLITS
from tasks.templates import OPTIONS_FIELD, Template, template_index
from tasks.vocabulary import VOCABULARY

PREFIX = "documentation_"
TEMPLATES = 10
HELD_OUT_TEMPLATES = 2
# T0 (Sanh et al. 2021): the prompt has no EOS, the answer ends with one.
FEATURES = {
    "inputs": seqio.Feature(VOCABULARY, add_eos=False),
    "targets": seqio.Feature(VOCABULARY, add_eos=True),
}
EVALUATION_SPLITS = ("validation", "test")


@dataclass(frozen=True)
class Cluster:
    """One question, asked in ten ways.

    Attributes:
      name: the Tasks are called `documentation_<name>`, the examples lie in `examples/documentation_<name>`.
      fields: text columns of the examples that templates may use besides `answer`.
      has_options: the examples list options; such a cluster also gets rank-classification Tasks.
      templates: ten; the last two are held out from training.
      metric_fns: of the generation Tasks, seqio's (targets, predictions).

    Raises:
      ValueError: not ten distinct templates, or a template with a field that the examples do not have.
    """

    name: str
    fields: tuple[str, ...]
    has_options: bool
    templates: tuple[Template, ...]
    metric_fns: tuple[Callable[..., dict[str, float]], ...]

    def __post_init__(self) -> None:
        if len(self.templates) != TEMPLATES:
            raise ValueError(f"cluster {self.name}: {len(self.templates)} templates, expected {TEMPLATES}")
        for attribute in ("name", "inputs"):
            if len({getattr(template, attribute) for template in self.templates}) != TEMPLATES:
                raise ValueError(f"cluster {self.name}: two templates have the same {attribute}")
        known = {*self.fields, "answer"} | ({OPTIONS_FIELD} if self.has_options else set())
        for template in self.templates:
            if not template.fields <= known:
                raise ValueError(f"cluster {self.name}, template {template.name}: unknown {template.fields - known}")

    @property
    def task(self) -> str:
        """Name of the Task that is trained on (or, for the held-out cluster, only evaluated)."""
        return PREFIX + self.name

    @property
    def seen_templates(self) -> tuple[Template, ...]:
        """The templates that training shows."""
        return self.templates[:-HELD_OUT_TEMPLATES]

    @property
    def held_out_templates(self) -> tuple[Template, ...]:
        """The templates that only evaluation shows."""
        return self.templates[-HELD_OUT_TEMPLATES:]


def source(cluster: Cluster, splits: Sequence[str]) -> ParquetDataSource:
    """The examples of a cluster, below the data folder."""
    columns = {name: string() for name in ("id", "answer", *cluster.fields)}
    return ParquetDataSource(
        f"examples/{cluster.task}/{{split}}-*.parquet",
        columns={**columns, **({"options": strings()} if cluster.has_options else {})},
        splits=splits,
        remedy="make the examples with `python -m beam_pipelines.build_examples`",
    )


def render(dataset: tf.data.Dataset, cluster: Cluster, templates: Sequence[Template]) -> tf.data.Dataset:
    """Examples -> {"inputs", "targets", "id", "template"}: each in the words of the template its id hashes to."""
    names = ("id", "answer", *cluster.fields)

    def words(options: np.ndarray, *values: bytes) -> tuple[bytes, bytes, np.int32]:
        fields = {name: value.decode("utf-8") for name, value in zip(names, values)}
        index = template_index(cluster.name, fields["id"], len(templates))
        inputs, targets = templates[index].render(fields, [option.decode("utf-8") for option in options])
        return inputs.encode("utf-8"), targets.encode("utf-8"), np.int32(cluster.templates.index(templates[index]))

    def example(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        options = row.get("options", tf.constant([], tf.string))
        arguments = [options, *(row[name] for name in names)]
        inputs, targets, template = tf.numpy_function(words, arguments, (tf.string, tf.string, tf.int32))
        rendered = {"inputs": inputs, "targets": targets, "id": row["id"], "template": template}
        return {name: tf.ensure_shape(value, ()) for name, value in rendered.items()}

    return dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)


def render_ranked(dataset: tf.data.Dataset, cluster: Cluster, templates: Sequence[Template]) -> tf.data.Dataset:
    """One element per option, in T0's way: the same inputs, the option as targets, `idx` and `is_correct`.

    Example:
      answer "b" of options ["a", "b"], second example of the split, gives
      {"inputs": ..., "targets": "a", "idx": [1, 0], "is_correct": False} and
      {"inputs": ..., "targets": "b", "idx": [1, 1], "is_correct": True}
    """

    def options(index: tf.Tensor, row: dict[str, tf.Tensor]) -> tf.data.Dataset:
        count = tf.shape(row["options"], tf.int64)[0]
        choices = tf.data.Dataset.from_tensor_slices((tf.range(count), row["options"]))
        return choices.map(
            lambda number, option: {
                **row,
                "answer": option,
                "idx": tf.stack([index, number]),
                "is_correct": tf.equal(option, row["answer"]),
            }
        )

    def keep(rendered: dict[str, tf.Tensor], row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {**rendered, "idx": row["idx"], "is_correct": row["is_correct"]}

    rows = dataset.enumerate().flat_map(options)
    return tf.data.Dataset.zip(render(rows, cluster, templates), rows).map(keep)


def ranked_target(_: str, example: dict[str, Any], is_target: bool = False) -> Any:
    """seqio postprocessor of the rank Tasks: ((example, option), is_correct, target tokens)."""
    if not is_target:
        return None
    index, option = (int(part) for part in example["idx"])
    return (index, option), bool(example["is_correct"]), len(example["targets"])


def register(cluster: Cluster) -> None:
    """Adds the cluster's Tasks to seqio's registry.

    `documentation_<name>` has the seen templates; `..._template_heldout` the test split in the held-out ones; with
    options, `..._rank` twins of both for scoring every option.
    """
    for suffix, templates, splits in (
        ("", cluster.seen_templates, SPLITS),
        ("_template_heldout", cluster.held_out_templates, ("test",)),
    ):
        _add(
            cluster.task + suffix,
            source(cluster, splits),
            functools.partial(render, cluster=cluster, templates=templates),
            metric_fns=list(cluster.metric_fns),
        )
        if cluster.has_options:
            _add(
                f"{cluster.task}{suffix}_rank",
                source(cluster, [split for split in splits if split in EVALUATION_SPLITS]),
                functools.partial(render_ranked, cluster=cluster, templates=templates),
                metric_fns=[metrics.rank_classification],
                postprocess_fn=ranked_target,
            )


def _add(name: str, examples: ParquetDataSource, rendering: Callable, **task: Any) -> None:
    seqio.TaskRegistry.add(
        name,
        source=examples,
        preprocessors=[
            rendering,
            seqio.preprocessors.tokenize,
            seqio.CacheDatasetPlaceholder(),
            seqio.preprocessors.append_eos,
        ],
        output_features=FEATURES,
        **task,
    )
