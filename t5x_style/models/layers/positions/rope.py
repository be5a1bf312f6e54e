"""Rotary positions (Su et al. 2021), half-split: dimension i turns together with dimension i + head_dim / 2.

Tables are made once per forward pass and given to every layer. Worked example, head_dim 2, base any:
position p turns (x0, x1) into (x0 cos p - x1 sin p, x1 cos p + x0 sin p).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from t5x_style.models.config import RopeScaling, RopeSpec

Tables = tuple[jax.Array, jax.Array]


def frequencies(spec: RopeSpec, head_dim: int) -> jax.Array:
    """Radians a position, [head_dim / 2], after scaling."""
    plain = spec.base ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    return plain if spec.scaling is None else _scaled(plain, spec.scaling)


def _scaled(plain: jax.Array, scaling: RopeScaling) -> jax.Array:
    if scaling.kind == "linear":
        return plain / scaling.factor
    # LLaMA 3.1: blend by how many turns a frequency makes within the original length.
    turns = scaling.original_length * plain / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return keep * plain + (1 - keep) * plain / scaling.factor


def tables(positions: jax.Array, spec: RopeSpec, head_dim: int) -> Tables:
    """Cosines and sines, each [B, L, 1, head_dim / 2] float32, of positions [B, L]."""
    angles = positions.astype(jnp.float32)[..., None, None] * frequencies(spec, head_dim)
    return jnp.cos(angles), jnp.sin(angles)


def apply(x_BLHK: jax.Array, cos_sin: Tables) -> jax.Array:
    """Turns queries or keys by their position; keeps shape and dtype."""
    cos, sin = cos_sin
    first, second = jnp.split(x_BLHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BLHK.dtype)
