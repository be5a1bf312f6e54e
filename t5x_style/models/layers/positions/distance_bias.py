"""Biases on attention scores that depend on the distance between query and key only: ALiBi and T5's relative bias.

Both are vectors over distances, one a head: bias[h, d + (queries - 1)] for d = key slot - query slot, so that blocks of
scores take slices and no [heads, L, L] array is stored. Worked example, 2 queries, 3 keys at the same first slot:
distances -1 .. 2, and query 1 takes the entries of distances -1, 0, 1.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t5x_style.models.layers.linear import truncated_normal
from t5x_style.models.specs import DtypePolicy, RelativeBiasSpec


def alibi_slopes(heads: int) -> np.ndarray:
    """float32 [heads]: 2^(-8/n), 2^(-16/n), ... for n the power of two at or below `heads`; any others from 2n.

    Press et al. 2022, section 3, and the published code for other numbers. Example: 2 heads -> [1/16, 1/256].
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (i + 1) / power) for i in range(power)]
    slopes += [2.0 ** (-4.0 * (2 * i + 1) / power) for i in range(heads - power)]
    return np.asarray(slopes, np.float32)


def alibi(heads: int, distances: jax.Array) -> jax.Array:
    """[heads, distances]: slope times distance (keys before the query are negative)."""
    return jnp.asarray(alibi_slopes(heads))[:, None] * distances.astype(jnp.float32)


def bucket_of(distances: jax.Array, spec: RelativeBiasSpec) -> jax.Array:
    """T5's bucket of each distance (key - query), int32.

    Worked example, 8 buckets, max_distance 16, one-directional: distances 1, 0, -1, -2, -3, -4, -9, -20 are in buckets
    0, 0, 1, 2, 3, 4, 6, 7: keys behind the query count as distance 0, half of the buckets are exact, the rest
    logarithmic.
    """
    buckets, first = spec.buckets, jnp.zeros_like(distances)
    if spec.bidirectional:
        buckets //= 2
        first = jnp.where(distances > 0, buckets, 0)
        distances = jnp.abs(distances)
    else:
        distances = jnp.maximum(-distances, 0)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(distances, 1).astype(jnp.float32) / exact) / math.log(spec.max_distance / exact)
    far = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
    return first + jnp.where(distances < exact, distances, far)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DistanceBias:
    """A table [buckets, heads] by distance."""

    table: jax.Array
    spec: RelativeBiasSpec = dataclasses.field(metadata={"static": True})

    def __call__(self, distances: jax.Array) -> jax.Array:
        """[heads, distances] of int distances."""
        return self.table[bucket_of(distances, self.spec)].T


class RelativeBias(nnx.Module):
    """T5's table [buckets, heads], shared by all layers of a trunk."""

    def __init__(self, spec: RelativeBiasSpec, heads: int, *, policy: DtypePolicy, rngs: nnx.Rngs, stddev: float):
        self.spec = spec
        table = truncated_normal(rngs.params(), (spec.buckets, heads), stddev, policy.dtype("params"))
        self.table = nnx.Param(table, out_sharding=(None, "heads"))

    def bias(self) -> DistanceBias:
        """What all layers share."""
        return DistanceBias(self.table[...], self.spec)
