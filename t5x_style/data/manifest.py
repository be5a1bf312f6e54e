"""manifest.json and mixture.json: what a cache holds, typed, checked when read.

`DIR/<task>/<split>/manifest.json` is written last, so a folder that has one is complete.
"""

from __future__ import annotations

import bisect
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from t5x_style import files
from t5x_style.errors import UserError

FORMAT = 2
READ_FORMATS = (1, 2)  # what format 1 lacks is empty: an objective that needs it says so
MANIFEST_FILE = "manifest.json"
MIXTURE_FILE = "mixture.json"
INPUTS_FOLDER = ".cache_inputs"  # where cache_tasks --input notes what it has done


@dataclasses.dataclass(frozen=True)
class Feature:
    """One output feature of a Task.

    Attributes:
      dtype: of the Task's feature, such as int32; of an array, what its bytes are. rank: its dimensions.
      add_eos: the Task wants an EOS behind it.
      vocabulary: fingerprint of what gave the ids; None for ids of no known vocabulary, and for what is no ids.
      kind: "ids" (tokens), "numbers" (a flat list without a vocabulary: spans, labels) or "array" (images, audio).
      stored: how a record holds it: "list" (int64 or float32 numbers), or little-endian bytes of "uint16" or "uint32"
        ids; of an array the bytes of its dtype.
      shape: of an array; None stands for one dimension that the number of bytes tells.
    """

    dtype: str
    rank: int = 1
    add_eos: bool = False
    vocabulary: str | None = None
    kind: str = "ids"
    stored: str = "list"
    shape: tuple[int | None, ...] | None = None


@dataclasses.dataclass(frozen=True)
class VocabularyInfo:
    """Size and special ids of a vocabulary, None where it has no such id. `class_name` is `class` in the file.

    What else is known of it lies in `vocabularies/<fingerprint>` of the cache, see vocabulary_facts.py.
    """

    class_name: str
    path: str
    size: int
    pad_id: int | None
    eos_id: int | None
    bos_id: int | None
    unk_id: int | None


@dataclasses.dataclass(frozen=True)
class Shard:
    """One ArrayRecord file: examples, items of each feature (tokens, numbers), size in bytes."""

    file: str
    examples: int
    tokens: Mapping[str, int]
    bytes: int


@dataclasses.dataclass(frozen=True)
class LengthHistogram:
    """counts[i]: examples with edges[i] <= length < edges[i + 1]; a count beyond the last pair has no upper edge."""

    edges: tuple[int, ...]
    counts: tuple[int, ...]

    def __post_init__(self):
        if len(self.edges) - len(self.counts) not in (0, 1):
            raise ValueError(f"{len(self.edges)} edges do not fit {len(self.counts)} counts")

    @classmethod
    def of(cls, lengths: Iterable[int]) -> LengthHistogram:
        """Powers of two as edges, up to the first above every length.

        >>> LengthHistogram.of([0, 1, 3, 3, 4])
        LengthHistogram(edges=(0, 1, 2, 4, 8), counts=(1, 1, 2, 1))
        """
        lengths = list(lengths)
        edges = [0, 1]
        while edges[-1] <= max(lengths, default=0):
            edges.append(edges[-1] * 2)
        counts = [0] * (len(edges) - 1)
        for length in lengths:
            counts[bisect.bisect_right(edges, length) - 1] += 1
        return cls(tuple(edges), tuple(counts))

    @property
    def empty(self) -> int:
        """Examples of length 0."""
        return self.counts[0] if tuple(self.edges[:2]) == (0, 1) else 0

    @property
    def upper_bound(self) -> int | None:
        """A length that no example exceeds; None if the last used bin is open."""
        last = max((index for index, count in enumerate(self.counts) if count), default=0)
        return self.edges[last + 1] - 1 if last + 1 < len(self.edges) else None


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `cache_tasks` wrote for one split of one Task.

    Attributes:
      task, split: names. code: of the steps that made it. features: by name. vocabularies: by fingerprint.
      append_eos: features to which an objective adds EOS. trim: feature -> most tokens, EOS included.
      shards: its files, in order. examples: in all of them. tokens, lengths: items of every feature.
    """

    task: str
    split: str
    code: str
    features: Mapping[str, Feature]
    vocabularies: Mapping[str, VocabularyInfo]
    append_eos: tuple[str, ...]
    trim: Mapping[str, int | None]
    shards: tuple[Shard, ...]
    examples: int
    tokens: Mapping[str, int]
    lengths: Mapping[str, LengthHistogram]

    @property
    def token_count(self) -> int:
        """Token ids of all features, without EOS that the loader adds."""
        return sum(count for name, count in self.tokens.items() if self.features[name].kind == "ids")

    def to_json(self) -> dict[str, Any]:
        """The JSON object of manifest.json."""
        value = {"format": FORMAT, **dataclasses.asdict(self)}
        value["append_eos"] = list(self.append_eos)
        value["vocabularies"] = {}
        for fingerprint, vocabulary in self.vocabularies.items():
            entry = dataclasses.asdict(vocabulary)
            value["vocabularies"][fingerprint] = {"class": entry.pop("class_name"), **entry}
        return value


@dataclasses.dataclass(frozen=True)
class Mixture:
    """mixture.json: the Tasks of a seqio Mixture with their resolved rates, in `unit` ("examples" or "tokens")."""

    mixture: str
    unit: str
    rates: Mapping[str, float]


def write_manifest(folder: str | os.PathLike, manifest: Manifest) -> str:
    """Writes `folder`/manifest.json in one step and returns its path."""
    path = files.join(folder, MANIFEST_FILE)
    files.atomic_write_json(path, manifest.to_json())
    return path


def write_mixture(folder: str | os.PathLike, mixture: Mixture) -> str:
    """Writes `folder`/mixture.json in one step and returns its path."""
    path = files.join(folder, MIXTURE_FILE)
    files.atomic_write_json(path, {"format": FORMAT, **dataclasses.asdict(mixture)})
    return path


def cache_command(name: str, cache_dir: str | os.PathLike) -> str:
    """The command that makes a cache: of files where it is known to be of files, else of a Task or Mixture."""
    command = "python -m beam_pipelines.cache_tasks"
    files_ = f"--input FILES --tokenizer FOLDER --name {name}"
    if files.is_dir(files.join(cache_dir, INPUTS_FOLDER, name)):
        return f"{command} {files_} --output {cache_dir}"
    if files.is_dir(files.join(cache_dir, name)):
        return f"{command} --task {name} --output {cache_dir}"
    return f"{command} --task {name} --output {cache_dir} (for files of your own {files_} instead of --task)"


def read_manifest(cache_dir: str | os.PathLike, task: str, split: str) -> Manifest:
    """Reads and checks `cache_dir`/`task`/`split`/manifest.json and the sizes of its shards.

    Raises:
      UserError: no cache (the message names the command that makes it), another format, a missing or truncated
        shard, or totals that do not add up.
    """
    folder = files.join(cache_dir, task, split)
    path = files.join(folder, MANIFEST_FILE)
    if not files.is_file(path):
        names = files.list_names(files.join(cache_dir, task))
        other = [name for name in names if files.is_file(files.join(cache_dir, task, name, MANIFEST_FILE))]
        hint = f"; cached splits: {', '.join(other)}" if other else ""
        raise UserError(
            f"no cache of {task!r} split {split!r} at {folder}{hint}; run: {cache_command(task, cache_dir)}"
        )

    def again() -> str:  # only where it is needed: a remote cache is asked what it is of
        return f"delete {folder} and run: {cache_command(task, cache_dir)}"

    value = _checked_format(path, files.read_json(path), again)
    try:
        manifest = _manifest_from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: malformed ({type(error).__name__}: {error}); {again()}") from error
    _check_shards(folder, manifest, again)
    return manifest


def read_mixture(cache_dir: str | os.PathLike, name: str) -> Mixture | None:
    """Reads `cache_dir`/`name`/mixture.json; None when there is none (then `name` is a Task).

    Raises:
      UserError: another format, an unknown unit, or rates that are not numbers >= 0.
    """
    path = files.join(cache_dir, name, MIXTURE_FILE)
    if not files.is_file(path):
        return None

    def again() -> str:
        return f"run: {cache_command(name, cache_dir)}"

    value = _checked_format(path, files.read_json(path), again)
    try:
        rates = {str(task): float(rate) for task, rate in value["rates"].items()}
        mixture = Mixture(str(value["mixture"]), str(value["unit"]), rates)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: malformed ({type(error).__name__}: {error}); {again()}") from error
    if mixture.unit not in ("examples", "tokens"):
        raise UserError(f"{path}: unit {mixture.unit!r} is neither 'examples' nor 'tokens'; {again()}")
    return mixture


def _checked_format(path: str, value: Any, again: Callable[[], str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.get("format") not in READ_FORMATS:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path}: format {found!r}, this version reads formats up to {FORMAT}; {again()}")
    return value


def _manifest_from_json(value: Mapping[str, Any]) -> Manifest:
    vocabularies = {}
    for fingerprint, entry in value["vocabularies"].items():
        # Format 1 wrote -1 for an id that does not exist.
        ids = {key: _id(entry[key]) for key in ("pad_id", "eos_id", "bos_id", "unk_id")}
        vocabularies[fingerprint] = VocabularyInfo(entry["class"], str(entry["path"]), int(entry["size"]), **ids)
    features = {name: _feature(entry) for name, entry in value["features"].items()}
    shards = tuple(
        Shard(str(entry["file"]), int(entry["examples"]), dict(entry["tokens"]), int(entry["bytes"]))
        for entry in value["shards"]
    )
    lengths = {
        name: LengthHistogram(tuple(entry["edges"]), tuple(entry["counts"])) for name, entry in value["lengths"].items()
    }
    return Manifest(
        task=str(value["task"]),
        split=str(value["split"]),
        code=str(value["code"]),
        features=features,
        vocabularies=vocabularies,
        append_eos=tuple(value["append_eos"]),
        trim=dict(value["trim"]),
        shards=shards,
        examples=int(value["examples"]),
        tokens={name: int(count) for name, count in value["tokens"].items()},
        lengths=lengths,
    )


def _id(value: Any) -> int | None:
    return None if value is None or value < 0 else int(value)


def _feature(entry: Mapping[str, Any]) -> Feature:
    """Format 1 says neither kind nor storage: floats were numbers, all else ids, and all were lists."""
    dtype = str(entry["dtype"])
    kind = str(entry.get("kind", "numbers" if "float" in dtype else "ids"))
    shape = entry.get("shape")
    return Feature(
        dtype,
        int(entry["rank"]),
        bool(entry["add_eos"]),
        entry["vocabulary"],
        kind,
        str(entry.get("stored", "list")),
        None if shape is None else tuple(shape),
    )


def _check_shards(folder: str, manifest: Manifest, again: Callable[[], str]) -> None:
    """Sizes only: one listing keeps opening 500 sources quick, and a cut file always has another size."""
    sizes = files.file_sizes(folder)
    for shard in manifest.shards:
        path = files.join(folder, shard.file)
        size = sizes.get(shard.file)
        if size is None:
            raise UserError(f"shard {path} is missing; {again()}")
        if size != shard.bytes:
            raise UserError(
                f"shard {path} has {size} bytes, its manifest says {shard.bytes} (truncated or replaced); {again()}"
            )
    if sum(shard.examples for shard in manifest.shards) != manifest.examples:
        raise UserError(
            f"{files.join(folder, MANIFEST_FILE)}: the shards' examples do not add up to {manifest.examples}; {again()}"
        )
    for name, feature in manifest.features.items():
        if feature.vocabulary is not None and feature.vocabulary not in manifest.vocabularies:
            raise UserError(
                f"{files.join(folder, MANIFEST_FILE)}: feature {name!r} names an unknown vocabulary; {again()}"
            )
