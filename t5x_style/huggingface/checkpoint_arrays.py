"""The parameters of a checkpoint, written and read some at a time.

Orbax's `save` takes a whole tree; its partial saves (`v1.partial`) add to a checkpoint and leave the same files in the
end, so that a model larger than memory can be written, and `training.checkpoints` reads it as its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from t5x_style.errors import UserError
from t5x_style.huggingface.load import nested
from t5x_style.training import parameters

_BATCH = 32 << 20  # bytes of small parameters that go in one partial save
_CHUNK = 64 << 20  # bytes of an array in one piece of a file: what a reader must hold at least


def write(folder: Path, values: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes parameters as the item `folder` (MODEL_DIR/checkpoints/<step>/params), as they come.

    Args:
      folder: must not exist. values: (path, value), every path once.
    """
    from orbax.checkpoint.experimental import v1

    working = folder.with_name(folder.name + ".writing")
    context = v1.Context()
    context.array.saving.storage_options.chunk_byte_size = _CHUNK
    with context:
        for batch in _batches(values):
            v1.partial.save(working, nested(batch))
            batch.clear()
        v1.partial.finalize(working)
    (item,) = [path.parent for path in working.glob("*/_METADATA")]
    item.rename(folder)
    shutil.rmtree(working)


def _batches(values: Iterable[tuple[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    batch: dict[str, np.ndarray] = {}
    for path, value in values:
        batch[path] = np.ascontiguousarray(value)
        del value
        if sum(held.nbytes for held in batch.values()) >= _BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


class Reader:
    """The parameters of one checkpoint.

    Attributes:
      shapes, dtypes: of every parameter, by path.
    """

    def __init__(self, folder: Path):
        """Reads the list of parameters.

        Args:
          folder: MODEL_DIR/checkpoints/<step>/params.

        Raises:
          UserError: there is no readable checkpoint.
        """
        self._folder, self._checkpointer = folder.absolute(), ocp.PyTreeCheckpointer()
        try:
            leaves = parameters.flat(dict(ocp.PyTreeCheckpointHandler().metadata(self._folder).tree))
        except (ValueError, KeyError, AttributeError, OSError) as error:
            raise UserError(f"{folder} is no readable checkpoint ({str(error).splitlines()[0]})") from error
        self.shapes = {path: tuple(leaf.shape) for path, leaf in leaves.items()}
        self.dtypes = {path: np.dtype(leaf.dtype) for path, leaf in leaves.items()}

    def read(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
        """The values of some parameters, in their stored dtype."""
        wanted = nested(dict.fromkeys(paths, 0))
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted)
        arguments: Any = ocp.args.PyTreeRestore(item=wanted, restore_args=how, partial_restore=True)
        return parameters.flat(self._checkpointer.restore(self._folder, args=arguments))
