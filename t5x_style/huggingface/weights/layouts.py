"""How one tensor of theirs lies in one or several of ours; every layout can be undone to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Layout(Protocol):
    """One tensor of theirs and one of ours."""

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        ...

    @property
    def ours(self) -> tuple[int, ...]:
        """Our shape, without the layers axis."""
        ...

    def read(self, value: np.ndarray) -> np.ndarray:
        """Theirs to ours."""
        ...

    def write(self, value: np.ndarray) -> np.ndarray:
        """Ours to theirs."""
        ...


@dataclass(frozen=True)
class Flat:
    """A vector, or anything that is only reshaped: theirs [prod(shape)], or `stored` where that is given."""

    shape: tuple[int, ...]
    stored: tuple[int, ...] | None = None

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        return (math.prod(self.shape),) if self.stored is None else self.stored

    @property
    def ours(self) -> tuple[int, ...]:
        """Our shape."""
        return self.shape

    def read(self, value: np.ndarray) -> np.ndarray:
        """Reshapes."""
        return value.reshape(self.shape)

    def write(self, value: np.ndarray) -> np.ndarray:
        """Reshapes back."""
        return value.reshape(self.theirs)


@dataclass(frozen=True)
class Matrix:
    """A matrix that torch stores as [out, in] (Linear), or [in, out] where `straight` (GPT-2's Conv1D).

    Ours is [*inputs, *outputs]. Example: Matrix((8,), (2, 4)) reads [8 out, 8 in] into [8, 2, 4].
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    straight: bool = False

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        size = math.prod(self.inputs), math.prod(self.outputs)
        return size if self.straight else size[::-1]

    @property
    def ours(self) -> tuple[int, ...]:
        """Our shape."""
        return (*self.inputs, *self.outputs)

    def read(self, value: np.ndarray) -> np.ndarray:
        """Transposes and reshapes."""
        return (value if self.straight else value.T).reshape(self.ours)

    def write(self, value: np.ndarray) -> np.ndarray:
        """The inverse."""
        flat = value.reshape(math.prod(self.inputs), math.prod(self.outputs))
        return flat if self.straight else flat.T


@dataclass(frozen=True)
class Table:
    """A vocabulary table or bias: theirs has `rows`, ours is padded to `padded` rows of zeros."""

    rows: int
    padded: int
    columns: int | None = None

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        return (self.rows,) if self.columns is None else (self.rows, self.columns)

    @property
    def ours(self) -> tuple[int, ...]:
        """Our shape."""
        return (self.padded, *self.theirs[1:])

    def read(self, value: np.ndarray) -> np.ndarray:
        """Pads."""
        return np.concatenate([value, np.zeros((self.padded - self.rows, *value.shape[1:]), value.dtype)])

    def write(self, value: np.ndarray) -> np.ndarray:
        """Cuts the padding off."""
        return value[: self.rows]


@dataclass(frozen=True)
class Fused:
    """One tensor of theirs that holds several of ours along its output dimension.

    Attributes:
      parts: layouts of the pieces; all Matrix of the same orientation, or all Flat.
      groups: 1: the pieces follow each other (q, k, v); more: each of so many groups of rows holds a slice of every
        piece (BLOOM and GLM-6B: a head's q, k, v, then the next head's).
    """

    parts: tuple[Layout, ...]
    groups: int = 1

    @property
    def axis(self) -> int:
        """The output dimension of their tensor."""
        first = self.parts[0]
        return 1 if isinstance(first, Matrix) and first.straight else 0

    @property
    def theirs(self) -> tuple[int, ...]:
        """Their shape."""
        shape = list(self.parts[0].theirs)
        shape[self.axis] = sum(part.theirs[self.axis] for part in self.parts)
        return tuple(shape)

    def read(self, value: np.ndarray) -> list[np.ndarray]:
        """Theirs to ours, in the order of the parts."""
        value = np.moveaxis(value, self.axis, 0)
        grouped = value.reshape(self.groups, -1, *value.shape[1:])
        ends = np.cumsum([part.theirs[self.axis] // self.groups for part in self.parts])[:-1]
        pieces = np.split(grouped, ends, axis=1)
        flat = [np.moveaxis(piece.reshape(-1, *value.shape[1:]), 0, self.axis) for piece in pieces]
        return [part.read(piece) for part, piece in zip(self.parts, flat, strict=True)]

    def write(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """Ours to theirs."""
        flat = [np.moveaxis(part.write(value), self.axis, 0) for part, value in zip(self.parts, values, strict=True)]
        grouped = [piece.reshape(self.groups, -1, *piece.shape[1:]) for piece in flat]
        joined = np.concatenate(grouped, axis=1)
        return np.moveaxis(joined.reshape(-1, *joined.shape[2:]), 0, self.axis)
