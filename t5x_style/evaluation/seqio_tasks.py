"""The seqio side: which Tasks, their examples as arrays, and their metrics computed by seqio's own metric objects.

seqio.Evaluator would do the same through tf.data feature converters, once per model; here the examples are read once
and shared by all models. The metric objects, the post-processing and the pairing of targets with outputs are seqio's
(`Task.metric_objs`, called as `seqio.Evaluator` calls them); a test compares the numbers with seqio.Evaluator's.
"""

from __future__ import annotations

import dataclasses
import difflib
import fnmatch
import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from t5x_style import files
from t5x_style.errors import UserError

PREDICTION = "prediction"
SCORE = "score"


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A Task's examples in memory.

    Attributes:
      task: the seqio.Task. kinds: what its metrics need, PREDICTION and SCORE.
      examples: as seqio gives them, feature -> array. groups: per example, which original example it is an option
        of (rank tasks), else its number.
    """

    task: Any
    kinds: frozenset[str]
    examples: list[dict[str, Any]]
    groups: list[int]

    @property
    def inputs(self) -> list[list[int]]:
        """Token ids of every prompt (empty where the Task has no inputs)."""
        return [[int(token) for token in example.get("inputs", ())] for example in self.examples]

    @property
    def targets(self) -> list[list[int]]:
        """Token ids of every answer, EOS included where the Task adds it."""
        return [[int(token) for token in example["targets"]] for example in self.examples]


def load_modules(modules: Sequence[str]) -> dict[str, list[str]]:
    """Imports the modules that register Tasks.

    Returns:
      Their EVALUATIONS together: group -> Task names.

    Raises:
      UserError: a module does not exist or cannot be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    groups: dict[str, list[str]] = {}
    for name in modules:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"module {name!r} cannot be imported ({error}); check --module") from error
        for group, names in getattr(module, "EVALUATIONS", {}).items():
            groups.setdefault(group, []).extend(names)
    return groups


def resolve(patterns: Sequence[str]) -> list[str]:
    """Names of registered Tasks that match, in the order asked for, each once.

    Raises:
      UserError: a pattern matches none; close names are listed.
    """
    import seqio

    known = sorted(seqio.TaskRegistry.names())
    chosen: list[str] = []
    for pattern in patterns:
        found = fnmatch.filter(known, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, known, n=3) or known[:5]
            raise UserError(f"no seqio Task {pattern!r}; near names: {', '.join(near)} (is its --module given?)")
        chosen += [name for name in found if name not in chosen]
    return chosen


def metric_kinds(task: Any) -> frozenset[str]:
    """What the Task's metrics need.

    Raises:
      UserError: it has no metrics, or one that needs more than predictions or scores.
    """
    from seqio import metrics

    names = {metrics.ModelOutputType.PREDICTION: PREDICTION, metrics.ModelOutputType.SCORE: SCORE}
    kinds = {metric.model_output_type for metric in task.metric_objs}
    if not kinds:
        raise UserError(f"Task {task.name!r} has no metric functions; for the loss of a token cache use --perplexity")
    if unknown := kinds - set(names):
        raise UserError(
            f"Task {task.name!r} has a metric over {sorted(kind.name for kind in unknown)}; "
            "known are metrics with the arguments (targets, predictions) and (targets, scores)"
        )
    return frozenset(names[kind] for kind in kinds)


def load(name: str, split: str, max_examples: int | None) -> TaskData:
    """Reads a Task's split in order, through all its preprocessors, without trimming.

    Args:
      name: of the Task. split: of its source.
      max_examples: take so many, evenly spread (every k-th); an example with several options (a feature `idx` of
        [example, option]) counts once and keeps all of them.

    Raises:
      UserError: no such split, a feature that is no plain token list, or no example.
    """
    import seqio

    task = seqio.get_mixture_or_task(name)
    kinds = metric_kinds(task)
    if split not in task.splits:
        raise UserError(f"Task {name!r} has no split {split!r}; it has {', '.join(task.splits)}")
    if "targets" not in task.output_features or not set(task.output_features) <= {"inputs", "targets"}:
        raise UserError(f"Task {name!r} has features {sorted(task.output_features)}; needed are inputs and targets")
    dataset = task.get_dataset(
        sequence_length=None, split=split, shuffle=False, num_epochs=1, seed=42, try_in_mem_cache=False
    )
    examples, groups = [], []
    for group, example in _thinned(dataset.as_numpy_iterator(), _stride(task, split, max_examples), max_examples):
        examples.append(example)
        groups.append(group)
    if not examples:
        raise UserError(f"Task {name!r} has no example in split {split!r}; make its data again or choose another split")
    return TaskData(task, kinds, examples, groups)


def _stride(task: Any, split: str, max_examples: int | None) -> int:
    if max_examples is None:
        return 1
    total = task.source.num_input_examples(split)
    return max(1, (total or 0) // max_examples)


def _thinned(examples: Iterator[dict], stride: int, limit: int | None) -> Iterator[tuple[int, dict]]:
    """(group, example) of every `stride`-th group, at most `limit` groups."""
    for number, example in enumerate(examples):
        group = int(example["idx"][0]) if "idx" in example and np.shape(example["idx"]) == (2,) else number
        if limit is not None and group // stride >= limit:
            return
        if group % stride == 0:
            yield group, example


@dataclasses.dataclass(frozen=True)
class Computed:
    """metrics: name -> value. targets, predictions: post-processed, as the metric functions saw them."""

    metrics: dict[str, float]
    targets: Sequence[Any]
    predictions: Sequence[Any] | None


def compute(data: TaskData, outputs: Mapping[str, Any]) -> Computed:
    """The Task's metrics.

    Args:
      data: the Task and its examples.
      outputs: for PREDICTION token ids, one list an example; for SCORE the summed log-probability of each example's
        targets.

    Raises:
      UserError: two metrics of the Task have one name.
    """
    from seqio import metrics as seqio_metrics

    features = data.task.output_features
    arrays = {
        kind: _padded(value, features["targets"].vocabulary) if kind == PREDICTION else np.asarray(value, np.float64)
        for kind, value in outputs.items()
    }
    kinds = {seqio_metrics.ModelOutputType.PREDICTION: PREDICTION, seqio_metrics.ModelOutputType.SCORE: SCORE}
    values: dict[str, float] = {}
    targets: Sequence[Any] = ()
    predictions: Sequence[Any] | None = None
    for metric in data.task.metric_objs:
        instance = metric.from_model_output(data.examples, arrays[kinds[metric.model_output_type]], features, "targets")
        if isinstance(instance, seqio_metrics.CollectingMetric):
            found, seen = instance.actual_compute(data.examples, features, "targets", targets)
        else:
            found, seen = instance.compute(), getattr(instance, "targets_and_inferences", {})
        targets = seen.get("targets", targets)
        predictions = seen.get("prediction", predictions)
        for name, value in found.items():
            if name in values:
                raise UserError(f"Task {data.task.name!r} has two metrics called {name!r}; rename one")
            values[name] = float(getattr(value, "value", value))
    return Computed(values, targets, predictions)


def _padded(rows: Sequence[Sequence[int]], vocabulary: Any) -> np.ndarray:
    """[N, longest + 1] int32; the rest of each row is EOS, where seqio's decoding stops (padding without an EOS)."""
    fill = vocabulary.pad_id if vocabulary.eos_id is None else vocabulary.eos_id
    array = np.full((len(rows), max(map(len, rows), default=0) + 1), fill, np.int32)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return array


def check_vocabulary(data: TaskData, vocabulary: Any) -> None:
    """The Task must be tokenised as the model was trained.

    Raises:
      UserError: the Task's SentencePiece file, or its number of ids, is not the model's.
    """
    ours = data.task.output_features["targets"].vocabulary
    path = getattr(ours, "sentencepiece_model_file", None)
    if path is not None and os.path.exists(path):
        same = files.file_sha256(path) == vocabulary.fingerprint.partition("+")[0]  # tokens added behind: the same ids
    else:
        same = ours.vocab_size == vocabulary.size
    if not same:
        raise UserError(
            f"Task {data.task.name!r} is tokenised with another vocabulary ({path}, {ours.vocab_size} ids) than the "
            f"model ({vocabulary.size} ids); set --data_dir to the folder whose tokenizer the model was trained with"
        )
