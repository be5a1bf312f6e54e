"""What of a Task's preprocessors is run once into the cache, what the loader does, and what cannot be cached.

Steps before `CacheDatasetPlaceholder` are run as they are. Of the later ones (all of them, where a Task has no
placeholder) the tail that appends EOS or trims becomes loader settings, the rest is run once if it is deterministic
and does not depend on the sequence length.

Worked example, `add_eos` set for targets only:
  [render, tokenize, CacheDatasetPlaceholder(), lower, append_eos, trim_dataset]
  early = [render, tokenize]; later = [lower]; append_eos = ("targets",); trim = {"inputs": None, "targets": None}
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import seqio

from beam_pipelines.caching.randomness import uses_seeds
from t5x_style.errors import UserError

APPEND_EOS, APPEND_EOS_AFTER_TRIM = seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim
TRIM = seqio.utils.trim_dataset

# What to use instead of a step that cannot be cached: the first entry whose word is in the step's name.
INSTEAD = (
    ("prefix", "the objective PrefixLM"),
    ("span", "a span corruption objective of the loader"),
    ("denois", "a denoising objective of the loader"),
    ("noise", "a denoising objective of the loader"),
    ("mask", "a masking objective of the loader"),
    ("shuffle", "the loader's own shuffling (DataConfig.shuffle)"),
    ("sample", "mixture rates in the loader (DataConfig.rates)"),
    ("pack", "the loader's packing (DataConfig.packing)"),
    ("concat", "the objective CausalLM with packing"),
    ("split", "the objective CausalLM with packing"),
    ("chunk", "the objective CausalLM with packing"),
    ("trim", "the loader's length (DataConfig.length)"),
    ("truncate", "the loader's length (DataConfig.length)"),
)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """How a Task's preprocessors are carried out; see the module's example.

    Attributes:
      early: steps before the placeholder.
      later: deterministic steps behind it, run once.
      append_eos: features that get an EOS from the loader.
      trim: features the loader trims: to this length, EOS included; None: to its own length.
    """

    early: tuple[Callable[..., Any], ...]
    later: tuple[Callable[..., Any], ...]
    append_eos: tuple[str, ...]
    trim: dict[str, int | None]


def step_name(step: Callable[..., Any]) -> str:
    """The name people know a step by."""
    inner = unwrapped(step)
    return getattr(inner, "__name__", None) or type(inner).__name__


def unwrapped(step: Callable[..., Any]) -> Callable[..., Any]:
    """The function inside functools.partial objects."""
    while isinstance(step, functools.partial):
        step = step.func
    return step


def bound(step: Callable[..., Any]) -> dict[str, Any]:
    """Keyword arguments that functools.partial objects have fixed; the outermost wins."""
    keywords: dict[str, Any] = {}
    while isinstance(step, functools.partial):
        keywords = {**step.keywords, **keywords}
        step = step.func
    return keywords


def depends_on_length(step: Callable[..., Any]) -> bool:
    """Whether seqio hands the step the sequence length of the run."""
    if dataclasses.is_dataclass(step):
        return any(field.name == "sequence_length" for field in dataclasses.fields(step))
    if "sequence_length" in bound(step):
        return False
    return "sequence_length" in inspect.signature(step).parameters


def _adds_eos(step: Callable[..., Any]) -> bool:
    return unwrapped(step) in (APPEND_EOS, APPEND_EOS_AFTER_TRIM)


def _is_loaders(step: Callable[..., Any]) -> bool:
    """Appending EOS, or trimming to the length of the run: what the loader can do."""
    return _adds_eos(step) or (unwrapped(step) is TRIM and "sequence_length" not in bound(step))


def refuse(task: seqio.Task, step: Callable[..., Any], reason: str) -> UserError:
    """The error for a step that cannot be cached."""
    name = step_name(step)
    instead = next((text for word, text in INSTEAD if word in name), "an objective of the loader")
    place = "after CacheDatasetPlaceholder" if task.supports_caching else "(there is no CacheDatasetPlaceholder)"
    return UserError(
        f"Task {task.name!r}: step {name!r} {place} {reason}, so one cached copy cannot stand for it; "
        f"take it out of the Task and use {instead}, or put a step that is meant to be fixed before the placeholder"
    )


def plan_steps(task: seqio.Task) -> StepPlan:
    """Divides the preprocessors of a Task.

    Raises:
      UserError: a later step is random or depends on the sequence length.
    """
    steps = tuple(task.preprocessors)
    at = task._cache_step_idx
    early, later = ((), steps) if at is None else (steps[:at], steps[at + 1 :])
    tail = len(later)
    while tail and _is_loaders(later[tail - 1]):
        if _adds_eos(later[tail - 1]) and any(_adds_eos(step) for step in later[tail:]):
            break  # a second EOS is the Task's own wish: the first is then written
        tail -= 1
    kept, converted = later[:tail], later[tail:]
    for step in kept:
        if depends_on_length(step):
            raise refuse(task, step, "depends on the sequence length of the run")
        if uses_seeds(step):
            raise refuse(task, step, "is random (seqio gives it seeds)")
    append_eos, trim = _loader_settings(task, converted)
    return StepPlan(tuple(early), tuple(kept), append_eos, trim)


def _loader_settings(
    task: seqio.Task, converted: Sequence[Callable[..., Any]]
) -> tuple[tuple[str, ...], dict[str, int | None]]:
    append_eos: tuple[str, ...] = ()
    trim: dict[str, int | None] = {}
    for step in converted:
        fixed = bound(step)
        features = fixed.get("output_features", task.output_features)
        if unwrapped(step) is TRIM:
            trim |= {name: trim.get(name) for name in features}
            continue
        append_eos = tuple(name for name in task.output_features if name in features and features[name].add_eos)
        if unwrapped(step) is APPEND_EOS_AFTER_TRIM:
            lengths = fixed.get("sequence_length") or {}
            trim |= {name: lengths.get(name, trim.get(name)) for name in append_eos}
    return append_eos, trim
