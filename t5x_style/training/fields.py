"""Does an objective make what a loss reads?"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from t5x_style.data.batches import BatchSpec
from t5x_style.data.objectives.objective import Objective
from t5x_style.errors import UserError
from t5x_style.losses.forward import OPTIONAL_FIELDS
from t5x_style.losses.loss import Loss


def check_fields(loss: Loss, configs: Mapping[str, Any], objective: Objective) -> None:
    """Refuses a loss that reads what the objective does not make, and an objective of which a side is not read.

    Args:
      configs: the architectures that are known, "policy" at least; those of the loss's other models are taken to be the
        policy's until their folders are read.

    Raises:
      UserError: they do not fit, or the loss cannot train such a model.
    """
    known = {name: configs.get(name, source.model or configs["policy"]) for name, source in loss.models().items()}
    reads = reads_of(loss, {**known, "policy": configs["policy"]})
    spec: BatchSpec = objective.spec
    made = {field.name: field.side for field in spec.fields}
    lacking = [name for name in reads if name not in made and name not in OPTIONAL_FIELDS]
    unread = [side for side in spec.sides if not any(made.get(name) == side for name in reads)]
    if not lacking and not unread:
        return
    kind, what = type(configs["policy"]).__name__, type(loss).__name__
    if lacking and not unread and {name.split("_")[0] for name in lacking} <= set(spec.sides):
        near = difflib.get_close_matches(lacking[0], made, n=1, cutoff=0.6)
        raise UserError(
            f"{what} reads {lacking[0]}, which the objective {type(objective).__name__} does not make"
            + (f"; did you mean {near[0]}?" if near else f"; it makes {', '.join(made)}")
        )
    needed = _named(dict.fromkeys(name.split("_")[0] for name in reads if name not in OPTIONAL_FIELDS))
    raise UserError(
        f"TrainRun.model is a {kind}, of which {what} reads the fields of {needed}; the objective "
        f"{type(objective).__name__} makes those of {_named(spec.sides)}"
        + (f", without {lacking[0]}" if lacking else "")
        + "; choose a model, a loss or an objective to fit"
    )


def reads_of(loss: Loss, configs: Mapping[str, Any]) -> tuple[str, ...]:
    """What `loss.reads` says.

    Raises:
      UserError: it is not defined, fails, or gives something else than names.
    """
    name = type(loss).__name__
    try:
        found = loss.reads(configs)
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(f"{name} defines no reads(configs); return the names of the fields it reads") from error
    except Exception as error:
        raise UserError(f"{name}.reads fails: {type(error).__name__}: {error}") from error
    given: Any = found
    if not isinstance(given, (tuple, list)) or not all(isinstance(each, str) for each in given):
        raise UserError(f"{name}.reads gives {found!r}; it must give a tuple of field names")
    return tuple(given)


def _named(sides: Any) -> str:
    return " and ".join(f"an {side}" if side[0] in "aeiou" else f"a {side}" for side in sorted(sides, reverse=True))
