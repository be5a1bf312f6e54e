"""A loss tried on shapes before anything is compiled or written: its mistakes are one line."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from t5x_style.data.data_config import DataConfig
from t5x_style.errors import UserError
from t5x_style.losses.loss import Loss, Now, Sums
from t5x_style.training.step import LossProgram

Shapes = Mapping[str, jax.ShapeDtypeStruct]


def check_loss(
    loss: Loss,
    reads: Collection[str],
    program: LossProgram,
    trainable: Shapes,
    frozen: Shapes,
    extra: Any,
    data: DataConfig,
) -> None:
    """Runs the loss on shapes alone.

    Args:
      reads: the fields that it reads. trainable, frozen: shapes by flat name. extra: shapes of the extras' values.
      data: what its batches look like.

    Raises:
      UserError: it fails, or gives something else than sums of named terms with their weights.
    """
    batch = {
        name: jax.ShapeDtypeStruct(shape[1:], dtype)
        for name, (shape, dtype) in data.batch_shapes().items()
        if name in reads
    }
    name = type(loss).__name__

    def both(trainable: Any, frozen: Any, batch: Any, extra: Any) -> Any:
        keys = jax.random.split(jax.random.key(0), data.rows)
        weights = program.weights(batch)
        sums = program.sums(trainable, frozen, batch, Now(jax.numpy.int32(0), keys, extra))
        if not isinstance(sums, Sums):
            raise UserError(f"{name} gives a {type(sums).__name__}; it must give Sums(losses, metrics)")
        return weights, sums

    try:
        weights, sums = jax.eval_shape(both, dict(trainable), dict(frozen), batch, extra)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} fails: {_told(error)}") from error
    _check_sums(name, weights, sums)


def _check_sums(name: str, weights: Any, sums: Sums) -> None:
    if not sums.losses:
        raise UserError(f"{name} gives no term; Sums.losses must name at least one")
    for term, value in sums.losses.items():
        if term not in weights:
            known = ", ".join(weights) or "none"
            raise UserError(f"{name} gives a term {term!r} that its weights() does not name; it names {known}")
        for what, shape in (("term", value.shape), ("weight of the term", weights[term].shape)):
            if shape:
                raise UserError(f"{name}: the {what} {term!r} has shape {shape}; it must be a sum, without dimensions")
    for metric, pair in sums.metrics.items():
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise UserError(f"{name}: the metric {metric!r} must be a pair (sum, weight)")
        if any(not jax.numpy.issubdtype(part.dtype, jax.numpy.number) for part in pair):
            raise UserError(f"{name}: the metric {metric!r} has a part that is no number; give sums as floats")


def _told(error: Exception) -> str:
    """What and where: the place in the user's file rather than in JAX."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    place = next((frame for frame in reversed(frames) if not _is_ours(frame.filename)), frames[-1] if frames else None)
    text = str(error).strip().splitlines()
    where = f" ({place.filename}, line {place.lineno})" if place else ""
    return f"{type(error).__name__}: {text[0] if text else 'no message'}{where}"


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])
