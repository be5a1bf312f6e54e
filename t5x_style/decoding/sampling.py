"""Choosing the next token: greedy, or random after temperature, top-k and top-p.

Each row draws from its own seed, so a row's tokens do not depend on which other rows share the batch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from t5x_style.errors import UserError


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
      temperature: divides the logits; 0 takes the most likely token (top_k and top_p then change nothing).
      top_k: only the k most likely tokens; 0: all.
      top_p: the smallest set of most likely tokens whose probability reaches p (Holtzman et al. 2020); 1: all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if self.temperature < 0:
            raise UserError(f"Sampling.temperature is {self.temperature}; give 0 (greedy) or a positive number")
        if self.top_k < 0:
            raise UserError(f"Sampling.top_k is {self.top_k}; give 0 (all tokens) or a positive number")
        if not 0 < self.top_p <= 1:
            raise UserError(f"Sampling.top_p is {self.top_p}; give a number above 0 and at most 1")


GREEDY = Sampling()


def restrict(logits: jax.Array, sampling: Sampling) -> jax.Array:
    """Logits [B, V] after temperature, -inf outside the top-k and top-p sets.

    Worked example, probabilities [0.5, 0.3, 0.2], top_p 0.6: the first token has 0.5 < 0.6, so the second is kept
    too, the third is not.
    """
    scaled = logits.astype(jnp.float32) / sampling.temperature
    if sampling.top_k and sampling.top_k < scaled.shape[-1]:
        kth = jax.lax.top_k(scaled, sampling.top_k)[0][:, -1:]
        scaled = jnp.where(scaled < kth, -jnp.inf, scaled)
    if sampling.top_p < 1:
        order = jnp.argsort(-scaled, axis=-1)
        sorted_p = jax.nn.softmax(jnp.take_along_axis(scaled, order, axis=-1), axis=-1)
        before = jnp.cumsum(sorted_p, axis=-1) - sorted_p  # probability of the more likely tokens
        rank = jnp.argsort(order, axis=-1)
        keep = jnp.take_along_axis(before < sampling.top_p, rank, axis=-1)
        scaled = jnp.where(keep, scaled, -jnp.inf)
    return scaled


def sample(logits: jax.Array, seeds: jax.Array, step: jax.Array, sampling: Sampling) -> jax.Array:
    """Next tokens [B] int32.

    Args:
      logits: [B, V]. seeds: [B] uint32, one a row. step: how many tokens were drawn before, scalar.
    """
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scaled = restrict(logits, sampling)
    draw = lambda seed, row: jax.random.categorical(jax.random.fold_in(jax.random.key(seed), step), row)  # noqa: E731
    return jax.vmap(draw)(seeds, scaled).astype(jnp.int32)
