"""A fingerprint of the code that makes a Task's examples: a cache of other code is never taken for this one's."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import seqio

from beam_pipelines.caching.steps import StepPlan, step_name
from beam_pipelines.caching.vocabularies import vocabulary_fingerprint
from t5x_style.files import fingerprint

ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def _source_hash(value: Any) -> str:
    try:
        return hashlib.blake2b(inspect.getsource(value).encode(), digest_size=8).hexdigest()
    except (OSError, TypeError):  # built in, or typed at a prompt: its name has to do
        return ""


def describe_callable(value: Any, depth: int = 3) -> Any:
    """JSON description of a step: its name, source hash, bound arguments and closure, without addresses."""
    if isinstance(value, functools.partial):
        return {
            "partial": describe_callable(value.func, depth),
            "args": [describe_callable(each, depth) for each in value.args],
            "keywords": {name: describe_callable(each, depth) for name, each in sorted(value.keywords.items())},
        }
    if inspect.isfunction(value) and depth:
        cells = []
        for cell in value.__closure__ or ():
            try:
                cells.append(describe_callable(cell.cell_contents, depth - 1))
            except ValueError:  # not filled yet
                cells.append(None)
        return {"function": f"{value.__module__}.{value.__qualname__}", "source": _source_hash(value), "closure": cells}
    if isinstance(value, seqio.Vocabulary):
        fast = getattr(value, "_use_fast_tokenizer", False)
        return {"vocabulary": vocabulary_fingerprint(value) or str(value), "fast": fast}
    if isinstance(value, seqio.Feature):
        return {field.name: describe_callable(getattr(value, field.name), depth) for field in fields(value)}
    if isinstance(value, Mapping):
        return [[repr(key), describe_callable(each, depth)] for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [describe_callable(each, depth) for each in value]
    if callable(value) and not inspect.isclass(value) and not isinstance(value, type):
        return {"callable": ADDRESS.sub("", repr(value)), "source": _source_hash(type(value))}
    return ADDRESS.sub("", repr(value))


def code_version(task: seqio.Task, plan: StepPlan, features: dict[str, Any], whole: bool = False) -> str:
    """32 hex characters over the steps that are run, the source's description and the features.

    Behind them stands what the command changed of the Task, for people to read, such as
    "0f...c3, without span_corruption" or "0f...c3, sequence_length inputs=512 targets=114".

    Args:
      whole: the split is made as one, since a late step goes across examples.
    """
    steps = [[step_name(step), describe_callable(step)] for step in (*plan.early, *plan.later)]
    source = {key: describe_callable(value) for key, value in sorted(vars(task.source).items()) if callable(value)}
    used = {name: describe_callable(feature.vocabulary) for name, feature in task.output_features.items()}
    described = [steps, type(task.source).__qualname__, source, sorted(features.items()), sorted(used.items()), whole]
    parts = [fingerprint(described)]
    if plan.left_out:
        parts.append(f"without {' '.join(plan.left_out)}")
    if plan.lengths:
        parts.append("sequence_length " + " ".join(f"{name}={length}" for name, length in sorted(plan.lengths.items())))
    return ", ".join(parts)
