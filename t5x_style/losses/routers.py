"""The losses of mixture-of-experts routers as a term of their own.

Each row has its own: a mean over its tokens that are no padding. A step's loss is the mean over the rows that hold any
token, so that neither accumulation, nor devices, nor what else lies in a batch changes it. transformers' losses are of
the whole batch (the shares of experts over all rows together): the two are equal for a batch of one row, and ours asks
every row to use the experts evenly, which is the stricter wish.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from t5x_style.losses.loss import Batch, Sums


def router_weight(batch: Batch) -> jax.Array:
    """How many rows hold a token that is no padding, on any side that the batch has: the weight of the term "router".

    Of an encoder and a decoder a row counts once, its loss being the sum over the layers of both; a side without
    tokens, or without experts, adds 0 to it.

    Worked example, encoder_segment_ids [[1, 0], [0, 0], [0, 0]] and decoder_segment_ids [[1, 2], [1, 0], [0, 0]]: 2.
    """
    held = [
        jnp.any(batch[name] != 0, axis=-1) for name in ("encoder_segment_ids", "decoder_segment_ids") if name in batch
    ]
    return jnp.sum(jnp.any(jnp.stack(held), axis=0).astype(jnp.float32))


def router_terms(losses: Mapping[str, jax.Array], batch: Batch) -> Sums:
    """The term "router" and the routers' metrics, to be divided by `router_weight`; {} where the model has no experts.

    Args:
      losses: [B] each, as models give them with `return_losses`, already multiplied by their weights in MoeSpec;
        `moe_dropped` is a share that is only reported.

    Worked example, three rows, the last of padding: {"moe_balance": [.5, .7, 0], "moe_dropped": [.1, 0, 0]} gives the
    term 1.2 of weight 2.
    """
    if not losses:
        return Sums({}, {})
    rows = router_weight(batch)
    sums = {name: jnp.sum(value_B) for name, value_B in losses.items()}
    trained = [value for name, value in sums.items() if name != "moe_dropped"]
    return Sums({"router": sum(trained[1:], trained[0])}, {name: (value, rows) for name, value in sums.items()})
