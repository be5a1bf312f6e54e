"""What an adapter is to a run: something attached to a model's matrices after the build.

A configuration and model.json know nothing of it. An adapter of one matrix is a module with
`__call__(x, product) -> what is added to x @ kernel`; see `Linear.adapter`. LoRA is written against this.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Sequence
from typing import Any

from flax import nnx

from t5x_style.errors import UserError
from t5x_style.models.layers.linear import Linear


@dataclasses.dataclass(frozen=True)
class Adapters:
    """The base of what TrainRun.adapters takes; frozen, so that gin can build it before anything else."""

    @property
    def trainable(self) -> tuple[str, ...]:
        """Patterns of what trains unless TrainRun.trainable says otherwise."""
        return ("*/adapter/*",)

    def attach(self, model: Any, rngs: nnx.Rngs) -> None:
        """Sets `Linear.adapter` of the matrices that are adapted; see `matrices`. Called by `attach` below."""
        raise NotImplementedError


def attach(model: Any, adapters: Adapters, rngs: nnx.Rngs) -> None:
    """Attaches adapters to a model that has been built; their arrays are laid out with all others, by mesh tables."""
    with nnx.use_eager_sharding(False):
        adapters.attach(model, rngs)


def matrices(model: Any, patterns: Sequence[str]) -> Iterator[tuple[str, Linear]]:
    """The matrices whose paths match one of `patterns`, such as "*/attention/query".

    A matrix of stacked layers or of experts has their axes in its kernel's logical names ("layers", "expert", ...): an
    adapter's own arrays need them in front, too.

    Raises:
      UserError: a pattern matches no matrix.
    """
    found = [("/".join(map(str, path)), node) for path, node in nnx.iter_modules(model) if isinstance(node, Linear)]
    for pattern in patterns:
        if not any(fnmatch.fnmatch(path, pattern) for path, _ in found):
            some = ", ".join(sorted({path.rsplit("/", 1)[-1] for path, _ in found}))
            raise UserError(f"adapters: {pattern!r} matches no matrix; their names end in {some}")
    return ((path, node) for path, node in found if any(fnmatch.fnmatch(path, pattern) for pattern in patterns))
