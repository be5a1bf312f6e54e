"""One unit of cache_tasks: a source shard of one split of one Task becomes one ArrayRecord shard.

Where a late step goes across examples, the unit is the whole split (whole_split.py).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from beam_pipelines.caching.checks import check_example
from beam_pipelines.caching.dataset import cached_dataset, failing_step
from beam_pipelines.caching.failures import mend, reason, told
from beam_pipelines.caching.features import Described, describe_features
from beam_pipelines.caching.options import DEFAULTS, Options
from beam_pipelines.caching.registry import get_provider, import_modules
from beam_pipelines.caching.steps import plan_steps
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
    """bfloat16, which is no type of numpy's own, as float32, which holds all of its values."""
    return value if value.dtype.kind in "iubf" else value.astype(np.float32)


def _examples(
    dataset: tf.data.Dataset, where: str, described: Described, failing: Callable[[], str], remedy: str
) -> Generator[Mapping[str, np.ndarray], None, None]:
    """The examples of a shard, checked.

    Args:
      where: begins messages. failing: says which step fails, once one does. remedy: ends messages.
    """
    iterator = dataset.as_numpy_iterator()
    for index in itertools.count():
        try:
            example = next(iterator)
        except StopIteration:
            return
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{where}, example {index}: {failing()} ({reason(error)}); {remedy}") from error
        plain = {name: _plain(np.asarray(value)) for name, value in example.items()}
        check_example(f"{where}, example {index}", plain, described)
        yield plain


@dataclass(frozen=True)
class CacheShard:
    """The unit's function; a class so that every runner can pickle it.

    Attributes:
      output: the cache folder.
      modules: what a worker imports to know the Tasks.
      data_dir: T5X_STYLE_DATA_DIR of the workers, or None.
      options: of the command.
    """

    output: str
    modules: tuple[str, ...]
    data_dir: str | None
    options: Options = DEFAULTS

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
        with told(f"Task {task_name!r} split {split!r}: its shards cannot be listed", mend(task_name)):
            shards = len(task.source.list_shards(split))
        if shards != unit.arguments["shards"]:
            raise UserError(
                f"{where}: the source has {shards} shards now; its files changed, run the same command again"
            )
        plan = plan_steps(task, self.options)
        with told(where, mend(task_name)):
            dataset = cached_dataset(task, plan, split, index, count)
            described = describe_features(task, dataset.element_spec)
        path = Path(self.output) / task_name / split / shard_name(index, count)

        def failing() -> str:
            return failing_step(task, plan, split, index, count)

        with contextlib.closing(_examples(dataset, where, described, failing, mend(task_name))) as examples:
            shard, lengths = write_shard(path, examples, described.features)
        result = {
            "examples": shard.examples,
            "bytes": shard.bytes,
            "tokens": dict(shard.tokens),
            "lengths": {name: list(LengthHistogram.of(values).counts) for name, values in lengths.items()},
        }
        write_result(storage.join(self.output, JOB_FOLDER), unit, result)
