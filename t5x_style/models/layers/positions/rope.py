"""Rotary positions (Su et al. 2021).

Tables are made once per forward pass and given to every layer. Half-split (LLaMA): dimension i turns together with
i + dim / 2; interleaved (GLM): 2i with 2i + 1. Worked example, two dimensions, base any: position p turns (x0, x1)
into (x0 cos p - x1 sin p, x1 cos p + x0 sin p).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from t5x_style.models.specs import RopeScaling, RopeSpec

Tables = tuple[jax.Array, jax.Array]


def turning_dims(spec: RopeSpec, head_dim: int) -> int:
    """How many dimensions of a head turn."""
    return head_dim if spec.dim is None else spec.dim


def frequencies(spec: RopeSpec, dim: int, longest: jax.Array | int = 0) -> jax.Array:
    """Radians a position, [dim / 2], after scaling.

    Args:
      dim: turning dimensions that share one kind of position.
      longest: tokens of the longest sequence at hand; only dynamic scaling looks at it.
    """
    exponents = jnp.arange(0, dim, 2, dtype=jnp.float32) / dim
    scaling = spec.scaling
    if scaling is not None and scaling.kind == "dynamic":
        reach = jnp.maximum(jnp.asarray(longest, jnp.float32), scaling.original_length) / scaling.original_length
        base = spec.base * (scaling.factor * reach - (scaling.factor - 1)) ** (dim / (dim - 2))
        return base**-exponents
    plain = spec.base**-exponents
    return plain if scaling is None else _scaled(plain, scaling, spec.base)


def _scaled(plain: jax.Array, scaling: RopeScaling, base: float) -> jax.Array:
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "yarn":
        keep = _yarn_keep(2 * len(plain), scaling, base)
    else:  # LLaMA 3.1: blend by how many turns a frequency makes within the original length.
        turns = scaling.original_length * plain / (2 * math.pi)
        low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
        keep = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return keep * plain + (1 - keep) * plain / scaling.factor


def _yarn_keep(dim: int, scaling: RopeScaling, base: float) -> jax.Array:
    """How much of each of the dim / 2 frequencies is kept: 1 for fast ones, 0 for slow ones, a ramp between."""

    def dimension(turns: float) -> float:
        """The dimension that makes so many turns within the original length."""
        return dim * math.log(scaling.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.round_limits:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001  # a step instead of a ramp
    ramp = (jnp.arange(dim // 2, dtype=jnp.float32) - low) / (high - low)
    return 1 - jnp.clip(ramp, 0.0, 1.0)


def _amplitude(scaling: RopeScaling | None) -> float:
    """What multiplies cosines and sines."""
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.attention_factor is None else scaling.attention_factor


def tables(positions: jax.Array, spec: RopeSpec, head_dim: int) -> Tables:
    """Cosines and sines, each [B, L, 1, turning dimensions / 2] float32.

    Args:
      positions: [B, L]; [B, L, 2] where `spec` is two-dimensional, which [B, L] then stands for with zeros beside it.
    """
    dim = turning_dims(spec, head_dim)
    positions = positions.astype(jnp.float32)
    if not spec.two_dimensional:
        flat = positions if positions.ndim == 2 else positions[..., 0]
        angles = flat[..., None, None] * frequencies(spec, dim, jnp.max(flat) + 1)
    else:
        pair = positions if positions.ndim == 3 else jnp.stack([positions, jnp.zeros_like(positions)], axis=-1)
        each = pair[..., None] * frequencies(spec, dim // 2, jnp.max(pair) + 1)  # [B, L, 2, dim / 4]
        angles = each.reshape(*each.shape[:2], 1, dim // 2)
    amplitude = _amplitude(spec.scaling)
    return jnp.cos(angles) * amplitude, jnp.sin(angles) * amplitude


def apply(x_BLHK: jax.Array, cos_sin: Tables, spec: RopeSpec) -> jax.Array:
    """Turns queries or keys by their position; keeps shape and dtype."""
    cos, sin = cos_sin
    dim = 2 * cos.shape[-1]
    turning, rest = x_BLHK[..., :dim].astype(jnp.float32), x_BLHK[..., dim:]
    if spec.two_dimensional:  # each half of the dimensions turns within itself
        halves = zip(jnp.split(turning, 2, -1), jnp.split(cos, 2, -1), jnp.split(sin, 2, -1))
        turned = jnp.concatenate([_turned(part, c, s, spec.interleaved) for part, c, s in halves], axis=-1)
    else:
        turned = _turned(turning, cos, sin, spec.interleaved)
    turned = turned.astype(x_BLHK.dtype)
    return turned if rest.shape[-1] == 0 else jnp.concatenate([turned, rest], axis=-1)


def _turned(x: jax.Array, cos: jax.Array, sin: jax.Array, interleaved: bool) -> jax.Array:
    if interleaved:
        pairs = x.reshape(*x.shape[:-1], -1, 2)
        first, second = pairs[..., 0], pairs[..., 1]
        return jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-1).reshape(x.shape)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
