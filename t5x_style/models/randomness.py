"""Random choices inside a model: one key a row, which every layer and every place in it makes its own.

A training step enters `rows` with a key for each row of its microbatch; modules call `dropout`. A choice depends on the
row's key, the layer's number and the place, and on nothing else: it is the same however rows are cut into microbatches
or spread over devices, layers are scanned or unrolled, and their activations recomputed.

Worked example, two rows in one batch or each alone: the masks are equal.

    with randomness.rows(keys):           keys [2], fold_in(key of the step, row of the global batch)
        with randomness.layer(3):
            x_BLD = randomness.dropout(x_BLD, 0.1, "feed-forward")

`rows` must be entered inside the function that is traced, since a compiled program is not traced again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import jax
import jax.numpy as jnp

# Numbers once used are never given to another place or part: it would change the results of old runs. They lie above
# those of layers, which are 0, 1, 2, ...
_ABOVE_LAYERS = 1 << 20
PLACES = {
    "embedding": 0,
    "attention": 1,
    "attention weights": 2,
    "cross-attention": 3,
    "cross-attention weights": 4,
    "feed-forward": 5,
    "feed-forward hidden": 6,
    "final": 7,
}
PARTS = {"encoder": 1024, "query stream": 1025}

_KEYS: ContextVar[jax.Array | None] = ContextVar("dropout_keys", default=None)


@contextlib.contextmanager
def rows(keys: jax.Array | None) -> Iterator[None]:
    """Lets `dropout` act, with one typed key a row: keys [B]; None: it does nothing, as outside any context."""
    token = _KEYS.set(keys)
    try:
        yield
    finally:
        _KEYS.reset(token)


def layer(index: int | jax.Array) -> contextlib.AbstractContextManager[None]:
    """The choices of one layer; its number counts over the whole trunk and may be traced."""
    return _folded(index)


def part(name: str) -> contextlib.AbstractContextManager[None]:
    """The choices of one of PARTS, whose layers or places have the numbers of others."""
    return _folded(_ABOVE_LAYERS + PARTS[name])


def active(rate: float) -> bool:
    """Whether dropout of this rate does anything here."""
    return rate > 0 and _KEYS.get() is not None


def dropout(x: jax.Array, rate: float, place: str) -> jax.Array:
    """Sets a share of x to 0 and divides the rest by 1 - rate; x itself at rate 0 or outside `rows`.

    Args:
      x: [B, ...], a row for each key. rate: the share. place: a name in PLACES.
    """
    if not active(rate):
        return x
    keys = _KEYS.get()
    assert keys is not None
    assert keys.shape == x.shape[:1], f"{keys.shape[0]} keys for {x.shape[0]} rows"
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, _ABOVE_LAYERS + PLACES[place])
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(own)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros((), x.dtype))


def _folded(number: int | jax.Array) -> contextlib.AbstractContextManager[None]:
    keys = _KEYS.get()
    return rows(None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, number))
