"""A run's settings as text by name, kept with every checkpoint: what has changed since is told when a run goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from t5x_style.training.run import TrainRun


def settings(run: TrainRun) -> dict[str, str]:
    """Dotted name -> value. Example: {"optimizer": "AdamW", "optimizer.beta1": "0.9", "steps": "100", ...}."""
    longest = max(max(lengths.values()) for lengths in run.data.lengths_of_parts())
    return dict(_walk(run, "")) | {"data.longest_row": str(longest)}  # of all stages: what an export says


def _walk(value: Any, name: str) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(value):
        inner, path = getattr(value, field.name), f"{name}{field.name}"
        if dataclasses.is_dataclass(inner) and not isinstance(inner, type):
            yield path, type(inner).__name__
            yield from _walk(inner, f"{path}.")
        else:
            yield path, repr(inner)


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """One line a setting that was another; of a part that was replaced only the part.

    Example: {"steps": "10"}, {"steps": "20"} -> ["steps was 10, is now 20"].
    """
    lines: list[str] = []
    replaced: list[str] = []
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) == now.get(name) or any(name.startswith(f"{part}.") for part in replaced):
            continue
        replaced.append(name)
        lines.append(f"{name} was {before.get(name, 'not there')}, is now {now.get(name, 'not there')}")
    return lines
