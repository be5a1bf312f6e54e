"""What of a Task's preprocessors is run once into the cache, what the loader does, and what cannot be cached.

Steps before `CacheDatasetPlaceholder` are run as they are. Of the later ones (all of them, where a Task has no
placeholder) the tail that appends EOS or trims becomes loader settings, the rest is run once if it is deterministic
and does not depend on the sequence length, or the command gives one.

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

from beam_pipelines.caching.checks import check_eos
from beam_pipelines.caching.failures import mend, told
from beam_pipelines.caching.options import DEFAULTS, Options
from beam_pipelines.caching.randomness import uses_seeds
from t5x_style.errors import UserError

APPEND_EOS, APPEND_EOS_AFTER_TRIM = seqio.preprocessors.append_eos, seqio.preprocessors.append_eos_after_trim
TRIM = seqio.utils.trim_dataset
TOKENIZE_AND_APPEND = seqio.preprocessors.tokenize_and_append_eos
Steps = Sequence[Callable[..., Any]]

# What to use instead of a step that cannot be cached: the first entry whose word is in the step's name.
INSTEAD = (
    ("prefix", "the objective PrefixLM"),
    ("ul2", "the objective UL2"),
    ("span", "the objective SpanCorruption"),
    ("denois", "the objective SpanCorruption or UL2"),
    ("noise", "the objective SpanCorruption or UL2"),
    ("mask", "the objective MaskedLM"),
    ("next_sentence", "the objective NextSentence"),
    ("shuffle", "the loader's own shuffling"),
    ("sample", "the rates of a mixture, or of sources in the run"),
    ("pack", "the loader's packing"),
    ("concat", "the objective CausalLM with packing"),
    ("split", "the objective CausalLM, which cuts long texts"),
    ("chunk", "the objective CausalLM, which cuts long texts"),
    ("trim", "the lengths of the run"),
    ("truncate", "the lengths of the run"),
)


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """How a Task's preprocessors are carried out; see the module's example.

    Attributes:
      early: steps before the placeholder.
      later: deterministic steps behind it, run once.
      append_eos: features that get an EOS from the loader.
      trim: features the loader trims: to this length, EOS included; None: to its own length.
      left_out: names of the steps behind the placeholder that are not run at all.
      lengths: what late steps are given as sequence length, and to what features are trimmed; None where none asks.
      eos: features to which a step, or the loader, appends an EOS.
    """

    early: tuple[Callable[..., Any], ...]
    later: tuple[Callable[..., Any], ...]
    append_eos: tuple[str, ...]
    trim: dict[str, int | None]
    left_out: tuple[str, ...] = ()
    lengths: dict[str, int] | None = None
    eos: tuple[str, ...] = ()


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


class RandomStepError(UserError):
    """A late step draws at random."""


class LengthNeededError(UserError):
    """A late step asks for the sequence length, and the command gives none."""


def refuse(task: seqio.Task, step: Callable[..., Any], reason: str) -> RandomStepError:
    """The error for a step that cannot be cached; its advice can be followed as it stands."""
    name = step_name(step)
    instead = next((text for word, text in INSTEAD if word in name), "an objective of the loader")
    placeholder = task.supports_caching
    place = "after CacheDatasetPlaceholder" if placeholder else "(there is no CacheDatasetPlaceholder)"
    if placeholder:
        advice = f"pass --stop_at_placeholder to leave it out and use {instead}"
    else:
        advice = f"put CacheDatasetPlaceholder() before it, pass --stop_at_placeholder and use {instead}"
    if not asks_for_length(step):  # seqio forbids those before the placeholder
        fixed = "put it before the placeholder" if placeholder else "put CacheDatasetPlaceholder() behind it"
        advice += f", or {fixed}, where it is drawn once"
    return RandomStepError(
        f"Task {task.name!r}: step {name!r} {place} {reason}, so one cached copy cannot stand for it; {advice}"
    )


def asks_for_length(step: Callable[..., Any]) -> bool:
    """Whether seqio sees a parameter sequence_length, be it bound or not."""
    if dataclasses.is_dataclass(step):
        return depends_on_length(step)
    return "sequence_length" in inspect.signature(step).parameters


def _refuse_length(task: seqio.Task, step: Callable[..., Any]) -> LengthNeededError:
    name = step_name(step)
    lengths = ",".join(f"{feature}=512" for feature in task.output_features)
    instead = next((text for word, text in INSTEAD if word in name), "an objective of the loader")
    leave = (
        f"pass --stop_at_placeholder to leave it out and use {instead}"
        if task.supports_caching
        else f"put CacheDatasetPlaceholder() before it, pass --stop_at_placeholder and use {instead}"
    )
    return LengthNeededError(
        f"Task {task.name!r}: step {name!r} depends on the sequence length of the run; "
        f"pass --sequence_length {lengths} (your lengths) to cache it for one length, or {leave}"
    )


def plan_steps(task: seqio.Task, options: Options = DEFAULTS) -> StepPlan:
    """Divides the preprocessors of a Task.

    Raises:
      UserError: a later step is random, or depends on the sequence length and the command gives none; an EOS is
        appended where there is none.
    """
    with told(f"Task {task.name!r}: seqio refuses its preprocessors", mend(task.name)):
        steps = tuple(task.preprocessors)
    at = task._cache_step_idx
    early, later = ((), steps) if at is None else (steps[:at], steps[at + 1 :])
    if options.stop_at_placeholder and at is not None:
        plan = _stopped(task, early, later)
    else:
        plan = _whole(task, early, later, options)
    writes = [step for step in (*early, *plan.later) if _adds_eos(step) or unwrapped(step) is TOKENIZE_AND_APPEND]
    named = {name for step in writes for name in _with_eos(task, step)}
    plan = dataclasses.replace(plan, eos=tuple(sorted({*named, *plan.append_eos})))
    check_eos(task, plan.eos)
    return plan


def _stopped(task: seqio.Task, early: Steps, later: Steps) -> StepPlan:
    """Behind the placeholder, only what the loader does itself."""
    append_eos, trim = _loader_settings(task, [step for step in later if _is_loaders(step)])
    left_out = tuple(step_name(step) for step in later if not _is_loaders(step))
    return StepPlan(tuple(early), (), append_eos, trim, left_out)


def _whole(task: seqio.Task, early: Steps, later: Steps, options: Options) -> StepPlan:
    tail = len(later)
    while tail and _is_loaders(later[tail - 1]):
        if _adds_eos(later[tail - 1]) and any(_adds_eos(step) for step in later[tail:]):
            break  # a second EOS is the Task's own wish: the first is then written
        tail -= 1
    asks = any(depends_on_length(step) for step in later[:tail])
    lengths = options.lengths or {} if asks else {}
    if lengths:
        # seqio trims behind a plain append_eos, which may cut the EOS off again: it is written, so that it may.
        while tail < len(later) and any(unwrapped(step) is not APPEND_EOS_AFTER_TRIM for step in later[tail:]):
            tail += 1
    for step in later[:tail]:
        if uses_seeds(step):
            raise refuse(task, step, "is random (seqio gives it seeds)")
        if depends_on_length(step) and not lengths:
            raise _refuse_length(task, step)
    append_eos, trim = _loader_settings(task, later[tail:])
    trim = {name: lengths.get(name) if length is None else length for name, length in trim.items()}
    return StepPlan(tuple(early), tuple(later[:tail]), append_eos, trim, lengths=lengths or None)


def _with_eos(task: seqio.Task, step: Callable[..., Any]) -> tuple[str, ...]:
    """The features to which a step appends an EOS."""
    features = bound(step).get("output_features", task.output_features)
    return tuple(name for name in task.output_features if name in features and features[name].add_eos)


def _loader_settings(task: seqio.Task, converted: Steps) -> tuple[tuple[str, ...], dict[str, int | None]]:
    append_eos: tuple[str, ...] = ()
    trim: dict[str, int | None] = {}
    for step in converted:
        fixed = bound(step)
        if unwrapped(step) is TRIM:
            trim |= {name: trim.get(name) for name in fixed.get("output_features", task.output_features)}
            continue
        append_eos = _with_eos(task, step)
        if unwrapped(step) is APPEND_EOS_AFTER_TRIM:
            lengths = fixed.get("sequence_length") or {}
            trim |= {name: lengths.get(name, trim.get(name)) for name in append_eos}
    return append_eos, trim
