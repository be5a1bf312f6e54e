"""mixture.json: the rates of a Mixture by seqio's own rate functions, from the examples that were cached.

seqio counts the examples of its own cache (`task.get_cached_stats`). While rates are computed, Tasks answer with the
counts of our manifests instead, and so does `num_input_examples` where the source does not know them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import seqio

from beam_pipelines.caching.failures import reason
from t5x_style import files
from t5x_style.data.manifest import MANIFEST_FILE, Manifest, Mixture, read_manifest
from t5x_style.errors import UserError

Stats = Mapping[str, Mapping[str, int]]  # split -> what get_cached_stats gives


def stats_of(manifest: Manifest) -> dict[str, int]:
    """What seqio's cache says of a split, as far as it is known here: examples and, by feature, tokens.

    Example: {"examples": 9, "targets_tokens": 31}
    """
    tokens = {f"{name}_tokens": manifest.tokens.get(name, 0) for name in manifest.features}
    return {"examples": manifest.examples, **tokens}


def cached_stats(output: str, task: str) -> dict[str, dict[str, int]]:
    """The stats of every split of a Task that lies in a cache, of earlier runs too."""
    splits = files.list_names(files.join(output, task))
    present = [split for split in splits if files.is_file(files.join(output, task, split, MANIFEST_FILE))]
    return {split: stats_of(read_manifest(output, task, split)) for split in present}


@contextlib.contextmanager
def served(tasks: Sequence[seqio.Task], stats: Mapping[str, Stats]) -> Iterator[None]:
    """Tasks that answer `cache_dir`, `get_cached_stats` and `num_input_examples` from `stats` inside the block."""
    before = [(task, dict(vars(task))) for task in tasks]
    try:
        for task in tasks:
            own = stats.get(task.name)
            if own:
                _serve(task, own)
        yield
    finally:
        for task, attributes in before:
            vars(task).clear()
            vars(task).update(attributes)


def _serve(task: seqio.Task, own: Stats) -> None:
    def get_cached_stats(split: str = "train") -> Mapping[str, int]:
        if split not in own:
            raise ValueError(f"split {split!r} is not in the cache, which has {', '.join(own)}")
        return _Counts(own[split])

    def num_input_examples(split: str) -> int | None:
        known = type(task).num_input_examples(task, split)
        return own[split]["examples"] if known is None and split in own else known

    task._cache_dir = "served from manifest.json"
    task.get_cached_stats = get_cached_stats
    task.num_input_examples = num_input_examples


class _Counts(dict):
    def __missing__(self, key: str) -> Any:
        raise KeyError(f"{key!r} is not counted; there are {', '.join(self)}")


def check_rates(mixture: seqio.Mixture, stats: Mapping[str, Stats], skip: Collection[str] = ()) -> None:
    """Tries the rate functions before anything is cached, with made-up counts, so that a broken one costs nothing.

    Args:
      stats: of the splits that will be there, whatever their numbers.

    Raises:
      UserError: as for `resolve_mixture`, but for rates of 0.
    """
    _rates(mixture, stats, skip)


def resolve_mixture(mixture: seqio.Mixture, stats: Mapping[str, Stats], skip: Collection[str] = ()) -> Mixture:
    """mixture.json's content: the rate of every Task, sub-mixtures resolved.

    Args:
      stats: by Task, of the splits in the cache.
      skip: Tasks left out, as if the mixtures had been defined without them: the others keep their rates, and those of
        a sub-mixture share its rate.

    Raises:
      UserError: a rate function fails or gives no number >= 0, or all are 0.
    """
    rates = _rates(mixture, stats, skip)
    if not sum(rates.values()):
        raise UserError(f"Mixture {mixture.name!r}: all of its rates are 0; give a Task a rate above 0")
    return Mixture(mixture.name, "examples", rates)


def _rates(mixture: seqio.Mixture, stats: Mapping[str, Stats], skip: Collection[str]) -> dict[str, float]:
    rates = {}
    with served(mixture.tasks, stats):
        for task in mixture.tasks:
            if task.name in skip:
                continue
            try:
                rate = float(_rate(mixture, task, skip) if skip else mixture.get_rate(task))
            except UserError:
                raise
            except Exception as error:
                splits = ", ".join(stats.get(task.name, {})) or "none"
                raise UserError(
                    f"Mixture {mixture.name!r}: the rate of {task.name!r} cannot be computed ({reason(error)}; cached "
                    f"splits: {splits}); cache the split it asks for, or give the rate as a number or as "
                    f"seqio.mixing_rate_num_examples, or leave the Task out with --skip {task.name}"
                ) from error
            if not 0 <= rate < float("inf"):
                raise UserError(
                    f"Mixture {mixture.name!r}: the rate of {task.name!r} is {rate}; correct its rate in the Mixture: "
                    "it must be 0 or above"
                )
            rates[task.name] = rate
    return rates


def _own_rate(mixture: seqio.Mixture, name: str) -> float:
    rate = mixture.rate_per_task_name[name]
    return float(rate(mixture._task_map[name]) if callable(rate) else rate)


def _left(provider: seqio.Task | seqio.Mixture, skip: Collection[str]) -> bool:
    """Whether anything of a Task or Mixture is left."""
    tasks = [provider] if isinstance(provider, seqio.Task) else provider.tasks
    return any(task.name not in skip for task in tasks)


def _rate(mixture: seqio.Mixture, task: seqio.Task, skip: Collection[str]) -> float:
    """seqio's `Mixture.get_rate` of a mixture without the Tasks of `skip`."""
    value = 0.0
    for inner in mixture._sub_mixtures:
        if task in inner.tasks:
            left = [name for name, each in inner._task_map.items() if _left(each, skip)]
            total = sum(_own_rate(inner, name) for name in left)
            value += mixture._get_submixture_rate(inner) * _rate(inner, task, skip) / total
    return value + (_own_rate(mixture, task.name) if task.name in mixture.rate_per_task_name else 0.0)
