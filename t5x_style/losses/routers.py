"""The losses of mixture-of-experts routers, added to a language-model loss that is a sum."""

from __future__ import annotations

from collections.abc import Mapping

import jax

Sums = dict[str, jax.Array]


def add_router_losses(
    total: jax.Array, weights: jax.Array, sums: Sums, losses: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array, Sums]:
    """(sum of weighted loss, sum of weights, sums to report) with the routers' losses in it.

    They are means, so they count once per unit of weight: after the division by the sum of weights the loss is the
    language model's mean plus them. Worked example: total 6 of weights 3, moe_balance .5 -> 7.5, and 7.5 / 3 = 2 + .5.

    Args:
      losses: as models give them with `return_losses`, already multiplied by their weights in MoeSpec; `moe_dropped` is
        a share that is only reported. {} changes nothing.
    """
    for name, value in losses.items():
        if name != "moe_dropped":
            total = total + value * weights
        sums = {**sums, name: value * weights}
    return total, weights, sums
