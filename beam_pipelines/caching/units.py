"""One unit of cache_tasks: a source shard of one split of one Task becomes one ArrayRecord shard."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from beam_pipelines.caching.dataset import cached_dataset
from beam_pipelines.caching.registry import get_provider, import_modules
from beam_pipelines.caching.steps import plan_steps
from beam_pipelines.caching.vocabularies import describe_features
from beam_pipelines.files import storage
from beam_pipelines.jobs.unit import Unit, file_name, write_result
from t5x_style.data.manifest import LengthHistogram
from t5x_style.data.shards import shard_name, write_shard
from t5x_style.errors import UserError

JOB_FOLDER = ".cache_tasks"


def unit_name(task: str, split: str, index: int, count: int) -> str:
    """Name of a unit, safe as a file name."""
    return file_name(f"{task}/{split}/{index:05d}-of-{count:05d}")


def error_path(output: str, name: str) -> str:
    """Where a failing unit leaves its message: runners wrap exceptions, each in its own way."""
    return storage.join(output, JOB_FOLDER, f"error-{name}.json")


def _plain(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype.kind not in "iub" else value


def _examples(dataset: tf.data.Dataset, where: str) -> Generator[Mapping[str, np.ndarray], None, None]:
    iterator = dataset.as_numpy_iterator()
    index = 0
    while True:
        try:
            example = next(iterator)
        except StopIteration:
            return
        except UserError:
            raise
        except Exception as error:
            reason = _reason(error)
            raise UserError(
                f"{where}, example {index}: the Task fails on it ({reason}); mend its preprocessors"
            ) from error
        yield {name: _plain(np.asarray(value)) for name, value in example.items()}
        index += 1


def _reason(error: Exception) -> str:
    """What a person needs of a TensorFlow error: its first line, or the Python exception inside."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    inner = [
        line for line in lines if line.split(":")[0].endswith(("Error", "Exception")) and " " not in line.split(":")[0]
    ]
    line = (inner or lines or [type(error).__name__])[0]
    return line.split("[[", 1)[0].strip()[:300]


@dataclass(frozen=True)
class CacheShard:
    """The unit's function; a class so that every runner can pickle it.

    Attributes:
      output: the cache folder.
      modules: what a worker imports to know the Tasks.
      data_dir: T5X_STYLE_DATA_DIR of the workers, or None.
    """

    output: str
    modules: tuple[str, ...]
    data_dir: str | None

    def __call__(self, unit: Unit) -> None:
        try:
            self._run(unit)
        except UserError as error:
            storage.write_json(error_path(self.output, unit.name), {"message": str(error)})
            raise

    def _run(self, unit: Unit) -> None:
        import_modules(self.modules, self.data_dir)
        task_name, split, index, count = (unit.arguments[key] for key in ("task", "split", "index", "count"))
        task = get_provider(task_name)
        assert isinstance(task, seqio.Task)
        where = f"Task {task_name!r} split {split!r} shard {index} of {count} ({unit.arguments['shard']})"
        shards = len(task.source.list_shards(split))
        if shards != count:
            raise UserError(
                f"{where}: the source has {shards} shards now; its files changed, run the same command again"
            )
        dataset = cached_dataset(task, plan_steps(task), split, index, count)
        path = Path(self.output) / task_name / split / shard_name(index, count)
        with contextlib.closing(_examples(dataset, where)) as examples:
            shard, lengths = write_shard(path, examples, describe_features(task)[0])
        result = {
            "examples": shard.examples,
            "bytes": shard.bytes,
            "tokens": dict(shard.tokens),
            "lengths": {name: list(LengthHistogram.of(values).counts) for name, values in lengths.items()},
        }
        write_result(storage.join(self.output, JOB_FOLDER), unit, result)
