"""The losses of mixture-of-experts routers as a term of their own."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from t5x_style.losses.loss import Sums


def router_terms(losses: Mapping[str, jax.Array], weights: jax.Array) -> Sums:
    """The term "router" and the routers' metrics, {} where the model has no experts.

    Args:
      losses: as models give them with `return_losses`, already multiplied by their weights in MoeSpec; `moe_dropped` is
        a share that is only reported.
      weights: the weight of the term in this microbatch. The losses are means, so they count once per unit of it.

    Worked example: {"moe_balance": .5, "moe_dropped": .1} and weights 3 give the term 1.5, and 1.5 / 3 = .5.
    """
    metrics = {name: (value * weights, weights) for name, value in losses.items()}
    trained = [value * weights for name, value in losses.items() if name != "moe_dropped"]
    return Sums({"router": sum(trained[1:], trained[0])} if trained else {}, metrics)
