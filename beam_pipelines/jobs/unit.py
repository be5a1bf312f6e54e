"""What a unit is: one piece of a job's work, its name, and where its result goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from beam_pipelines.files import storage
from t5x_style.files import fingerprint

# Characters of a unit's name: file systems take 255, of which `.NAME.06-minhash_dedup.parquet.<32>.tmp` needs the rest.
LONGEST_NAME = 160


@dataclass(frozen=True)
class Unit:
    """One piece of work of a job.

    Attributes:
      name: unique in its job, safe as a file name.
      fingerprint: of everything the result depends on.
      arguments: small, JSON-like values the unit's function needs beside the job's own.
    """

    name: str
    fingerprint: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """A short name for every path: its last component, and more of them only where two paths end alike.

    Example: ["a/x.warc", "b/x.warc", "b/y.warc"] -> ["a/x.warc", "b/x.warc", "y.warc"]. The same files get the same
    names wherever the folder lies, so that document ids do not depend on the machine.
    """
    parts = [path.replace("://", "/").split("/") for path in paths]
    depth = [1] * len(paths)
    while True:
        names = ["/".join(part[-depth[index] :]) for index, part in enumerate(parts)]
        groups: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            groups.setdefault(name, []).append(index)
        clashes = [index for group in groups.values() if len(group) > 1 for index in group]
        clashes = [index for index in clashes if depth[index] < len(parts[index])]
        if not clashes:
            return names
        for index in clashes:
            depth[index] += 1


def file_name(name: str) -> str:
    """`name` as one file name: slashes and other unsafe characters are percent-encoded, long ones end in a hash.

    Example: "a/x 1.warc.gz" -> "a%2Fx%201.warc.gz". A Chinese character becomes nine: 30 of them would be too many.
    """
    safe = quote(name, safe="")
    return safe if len(safe) <= LONGEST_NAME else f"{safe[: LONGEST_NAME - 33]}-{fingerprint(name)}"


def result_path(folder: str, unit_name: str) -> str:
    """Where a unit of the job in `folder` writes its result, last of its files."""
    return storage.join(folder, f"unit-{unit_name}.json")


def write_result(folder: str, unit: Unit, result: Mapping[str, Any]) -> None:
    """Marks a unit as done."""
    storage.write_json(result_path(folder, unit.name), {**result, "fingerprint": unit.fingerprint})
