"""Every random key of a run: fold_in(fold_in(seed, step), purpose), with the purposes named here and nowhere else."""

from __future__ import annotations

import jax

# A number once used is never given to another purpose: it would change the results of old configurations.
PURPOSES = {"initialisation": 0, "dropout": 1, "sampling": 2, "adapters": 3}


def key(seed: int, step: int | jax.Array, purpose: str) -> jax.Array:
    """The key of one purpose at one step; equal on every process and mesh.

    Args:
      seed: the run's seed. step: the optimizer step (may be traced). purpose: a name in PURPOSES.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), step), PURPOSES[purpose])
