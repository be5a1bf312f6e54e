"""A seqio DataSource over Parquet files: one file is one shard, read in file and row order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import seqio
import tensorflow as tf

from t5x_style.errors import UserError
from tasks import data_dir

ROWS_PER_BATCH = 1024


def string() -> tf.TensorSpec:
    """Spec of a string column."""
    return tf.TensorSpec((), tf.string)


def strings() -> tf.TensorSpec:
    """Spec of a column of string lists."""
    return tf.TensorSpec((None,), tf.string)


class ParquetDataSource(seqio.DataSource):
    """Rows of Parquet files as tf.data elements; nothing is opened until a split is used.

    Args:
      pattern: glob of the files, below the data folder unless absolute; `{split}` stands for the split's name.
      columns: what each element holds: column name -> spec of its value.
      splits: the splits the source offers.
      split_of: given, every file holds rows of all splits and this function of a row (a mapping of
        `split_columns`) names the row's split; not given, `pattern` must contain `{split}`.
      split_columns: the columns that `split_of` reads.
      remedy: how to make the missing files, for the error message.

    Raises:
      ValueError: a source with neither or both of `{split}` and `split_of`.
    """

    def __init__(
        self,
        pattern: str,
        columns: Mapping[str, tf.TensorSpec],
        splits: Sequence[str],
        split_of: Callable[[Mapping[str, Any]], str] | None = None,
        split_columns: Sequence[str] = (),
        remedy: str = "",
    ):
        if ("{split}" in pattern) == (split_of is not None):
            raise ValueError(f"{pattern}: give either {{split}} in the pattern or a split_of function")
        self._pattern, self._columns = pattern, dict(columns)
        self._split_of, self._split_columns = split_of, tuple(split_columns)
        self._remedy = remedy or "check the pattern"
        self._counts: dict[tuple[str, int, int], Counter[str]] = {}
        super().__init__(splits=splits)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self._pattern})"

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """False: a file is the smallest unit; seqio shards smaller sources by element."""
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        """The files of `split` in name order; each is one shard.

        Raises:
          UserError: no file matches.
        """
        pattern = data_dir.resolve(self._pattern.replace("{split}", split))
        files = sorted(tf.io.gfile.glob(pattern))
        if not files:
            raise UserError(f"{pattern}: no file matches; {self._remedy}")
        return files

    def num_input_examples(self, split: str) -> int:
        """Rows of `split`: from the footers, or, where rows are assigned to splits, from the split columns alone."""
        files = self.list_shards(split)
        if self._split_of is None:
            return sum(_open(path).metadata.num_rows for path in files)
        return sum(self._split_counts(path)[split] for path in files)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Rows of `split` in file and row order; with `shuffle` the order of the files is drawn from `seed`.

        Args:
          split: one of `splits`.
          shuffle: shuffle the files (rows are shuffled later, by the Task's buffer).
          seed: of the file order; None draws one.
          shard_info: read only files index, index + num_shards, ...
          sequence_length: unused, seqio's signature.
          use_cached: unused, seqio's signature.
          num_epochs: passes over the rows; None repeats for ever.

        Raises:
          UserError: no file, or a file without one of the columns.
          ValueError: more shards asked for than there are files.
        """
        del sequence_length, use_cached
        files = list(self.list_shards(split))
        if shard_info is not None:
            if len(files) < shard_info.num_shards:
                raise ValueError(f"{self}: {len(files)} files cannot give {shard_info.num_shards} shards")
            files = files[shard_info.index :: shard_info.num_shards]
        for path in files:
            self._check_columns(path)
        if shuffle:
            random.Random(None if seed is None else int(seed)).shuffle(files)

        def rows() -> Iterator[dict[str, Any]]:
            for path in files:
                yield from self._rows(path, split, tuple(self._columns))

        dataset = tf.data.Dataset.from_generator(rows, output_signature=self._columns)
        return dataset if num_epochs == 1 else dataset.repeat(num_epochs)

    def _split_counts(self, path: str) -> Counter[str]:
        """Rows of each split in one file; kept while the file does not change, since seqio asks several times."""
        assert self._split_of is not None
        status = tf.io.gfile.stat(path)
        identity = (path, status.length, status.mtime_nsec)
        if identity not in self._counts:
            batches = _open(path).iter_batches(batch_size=ROWS_PER_BATCH, columns=list(self._split_columns))
            self._counts[identity] = Counter(self._split_of(row) for batch in batches for row in batch.to_pylist())
        return self._counts[identity]

    def _check_columns(self, path: str) -> None:
        present = set(_open(path).schema_arrow.names)
        missing = [name for name in (*self._columns, *self._split_columns) if name not in present]
        if missing:
            raise UserError(f"{path}: no column {', '.join(missing)} (it has {', '.join(sorted(present))})")

    def _rows(self, path: str, split: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Rows of one file that belong to `split`, as {column: value} in row order."""
        wanted = list(dict.fromkeys((*columns, *self._split_columns)))
        for batch in _open(path).iter_batches(batch_size=ROWS_PER_BATCH, columns=wanted):
            for row in batch.to_pylist():
                if self._split_of is None or self._split_of(row) == split:
                    yield {name: _value(row[name], path, name) for name in columns}


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(tf.io.gfile.GFile(path, "rb") if "://" in path else path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); make it again") from error


def _value(value: Any, path: str, name: str) -> Any:
    if value is None:
        raise UserError(f"{path}: column {name} has an empty (null) value; a row needs all of its columns")
    if isinstance(value, list):
        return np.array(value, dtype=object if not value or isinstance(value[0], str) else None)
    return value
