"""From a source of batches to arrays on the devices: which rows this process feeds, which fields go, what counts."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from t5x_style import mesh as meshes
from t5x_style.data.batches import BatchSpec
from t5x_style.data.data_config import DataConfig
from t5x_style.training.setup import Setup
from t5x_style.training.state import Arrays, TrainState

Batch = dict[str, jax.Array]


class Feed:
    """The batches of one DataConfig.

    A source is an iterator of dicts of arrays [accumulation, this process's rows, ...] with `get_state`, `set_state`,
    `merge_states` and `close`, as t5x_style.data's loader is one. A source that makes batches from the model (rollouts)
    has `next(state, frozen)` instead of `__next__`, and may have `at_boundary`: False while minibatches of a round are
    left, when no checkpoint is made.

    Attributes:
      source: see above.
    """

    def __init__(self, data: DataConfig, setup: Setup, open_loader: Any):
        tables = setup.resolver.tables
        self._spec: BatchSpec = data.spec
        self._reads = frozenset(setup.reads)
        self._shardings = {rank: meshes.batch_sharding(setup.mesh, tables, rank=rank, leading=1) for rank in (2, 3, 4)}
        counts = {part.batch_size // data.accumulation for part in data.parts}
        self._whole = {len(self._rows(count)): count for count in counts}  # this process's rows -> all rows
        self.source = open_loader(data, None if jax.process_count() == 1 else self._rows)

    def _rows(self, count: int) -> list[int]:
        """This process's rows of a microbatch of `count` rows."""
        return meshes.local_rows(self._shardings[3], count, leading=1)

    def next(self, state: TrainState, frozen: Arrays) -> tuple[Batch, dict[str, int]]:
        """The next batch on the devices, and its tokens on this process by side."""
        make = getattr(self.source, "next", None)
        return self.put(next(self.source) if make is None else make(state, frozen))

    @property
    def at_boundary(self) -> bool:
        """May a checkpoint be made now?"""
        return getattr(self.source, "at_boundary", True)

    def put(self, batch: dict[str, np.ndarray]) -> tuple[Batch, dict[str, int]]:
        """Moves the fields of a host batch that the loss reads to the devices; returns them and the tokens by side."""
        fields = {name: self._put(np.asarray(array)) for name, array in batch.items() if name in self._reads}
        return fields, self._tokens(batch)

    def _put(self, array: np.ndarray) -> jax.Array:
        sharding = self._shardings[min(array.ndim, 4)]
        if jax.process_count() == 1:
            return jax.device_put(array, sharding)
        shape = (array.shape[0], self._whole[array.shape[1]], *array.shape[2:])
        return jax.make_array_from_process_local_data(sharding, array, shape)

    def _tokens(self, batch: dict[str, np.ndarray]) -> dict[str, int]:
        """Places that are no padding, by side; the segment ids of a side say which (data/batches.py)."""
        ids = self._spec.of_role("segment_ids")
        return {side: int(np.count_nonzero(batch[name])) for side, name in ids.items()}

    def close(self) -> None:
        """Closes the source."""
        self.source.close()
